package org.sunbird.aggregates;

import org.apache.beam.runners.core.construction.PipelineOptionsTranslation;
import org.apache.beam.runners.fnexecution.control.JobBundleFactory;
import org.apache.beam.sdk.options.ExperimentalOptions;
import org.apache.beam.sdk.options.PipelineOptions;
import org.apache.beam.vendor.grpc.v1p60p1.com.google.protobuf.Struct;
import org.apache.flink.configuration.ExecutionOptions;
import org.apache.flink.core.memory.ManagedMemoryUseCase;
import org.apache.flink.python.PythonFunctionRunner;
import org.apache.flink.python.PythonOptions;
import org.apache.flink.python.util.ProtoUtils;
import org.apache.flink.runtime.execution.Environment;
import org.apache.flink.runtime.metrics.TimerGauge;
import org.apache.flink.streaming.api.operators.python.process.ExternalPythonProcessOperator;
import org.apache.flink.streaming.api.runners.python.beam.BeamDataStreamPythonFunctionRunner;
import org.apache.flink.streaming.api.utils.PythonOperatorUtils;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.runtime.tasks.ProcessingTimeService;

/**
 * PyFlink's operator of a Python function, with four differences.
 *
 * <p><b>No checkpoint completes after a bundle has failed.</b> When a timer finishes a bundle and the bundle fails, Flink
 * reports the exception to another thread. Until that thread has ended the task, this one continues. If a barrier is
 * waiting, its checkpoint finishes the bundle again. By then there is no bundle, which Flink 2.3 treats as success, so
 * without this class the checkpoint would complete past the failed records.
 *
 * <p><b>A task that ends does not end its TaskManager.</b> See {@link TolerantJobBundleFactory}.
 *
 * <p><b>Records do not wait for the end of their bundle.</b> The whole stage drains at the end of each bundle, so
 * bundles must be long when there is a backlog. But PyFlink passes records to Python only when it has a megabyte of
 * them, or when the bundle ends. Here Python gets the first records while the next ones are still being collected. A
 * bundle ends as soon as there is no more input: when the task has been idle for most of the last
 * <code>execution.buffer-timeout.interval</code>. The more records a bundle has, the longer the task must have been
 * idle: the source of a job with a backlog waits for Kafka too, for a moment after each fetch.
 *
 * <p><b>Large records limit a bundle.</b> Beam puts a hundred hand-overs into a queue on the heap before it waits for
 * Python. One record may be a megabyte, and then a backlog of them fills the heap of a small TaskManager.
 */
public final class PythonStageOperator<IN, OUT> extends ExternalPythonProcessOperator<IN, OUT> {

    private static final long serialVersionUID = 1L;

    /** In bytes. Each hand-over costs Python about as much as one or two records. */
    private static final int HAND_OVER_SIZE = 64 * 1024;

    /** In bytes, of records that are larger than a hand-over. */
    private static final long MAX_BYTES_OF_LARGE_RECORDS = 8 * 1024 * 1024;

    /** So many records more, and the input must have been dry for as long again as for one. */
    private static final int RECORDS_PER_WAIT = 100;

    private transient Throwable failure;
    private transient long bytesOfLargeRecords;
    private transient long bufferTimeoutMillis;
    private transient TimerGauge idleTime;
    private transient long idleMillisAtLastLook;
    private transient long dryMillis;

    public PythonStageOperator(ExternalPythonProcessOperator<IN, OUT> operator) {
        super(
                operator.getConfiguration(),
                operator.getPythonFunctionInfo(),
                operator.getInputTypeInfo(),
                operator.getProducedType());
    }

    @Override
    public void open() throws Exception {
        super.open();
        idleTime = getContainingTask()
                .getEnvironment()
                .getMetricGroup()
                .getIOMetricGroup()
                .getIdleTimeMsPerSecond();
        bufferTimeoutMillis = Math.max(1, config.get(ExecutionOptions.BUFFER_TIMEOUT).toMillis());
        lookAgain();
    }

    /** Each timer registers the next one. Fixed-rate timers would pile up while a bundle ends, then all fire at once. */
    private void lookAgain() {
        ProcessingTimeService timeService = getProcessingTimeService();
        timeService.registerTimer(
                timeService.getCurrentProcessingTime() + bufferTimeoutMillis, timestamp -> finishBundleOfDryInput());
    }

    private void finishBundleOfDryInput() throws Exception {
        long idleMillis = idleTime.getAccumulatedCount();
        long newMillis = idleMillis - idleMillisAtLastLook;
        if (elementCount > 0) {
            dryMillis = 2 * newMillis > bufferTimeoutMillis ? dryMillis + newMillis : 0;
            if (2 * dryMillis > bufferTimeoutMillis * (1 + elementCount / RECORDS_PER_WAIT)) {
                invokeFinishBundle();
            }
        }
        idleMillisAtLastLook = idleMillis;
        lookAgain();
    }

    @Override
    public void processElement(StreamRecord<IN> element) throws Exception {
        super.processElement(element);
        if (bytesOfLargeRecords >= MAX_BYTES_OF_LARGE_RECORDS) {
            invokeFinishBundle();
        }
    }

    @Override
    protected void invokeFinishBundle() throws Exception {
        if (failure != null) {
            throw new IllegalStateException("An earlier bundle of this task has failed", failure);
        }
        try {
            super.invokeFinishBundle();
            bytesOfLargeRecords = 0;
            dryMillis = 0;
        } catch (Throwable t) {
            failure = t;
            throw t;
        }
    }

    /** Like the superclass, but hands over to Python after fewer bytes. */
    @Override
    public PythonFunctionRunner createPythonFunctionRunner() throws Exception {
        Environment environment = getContainingTask().getEnvironment();
        return new BeamDataStreamPythonFunctionRunner(
                environment,
                getRuntimeContext().getTaskInfo().getTaskName(),
                createPythonEnvironmentManager(),
                "flink:transform:ds:stateless_function:v1",
                ProtoUtils.createUserDefinedDataStreamFunctionProtos(
                        getPythonFunctionInfo(),
                        getRuntimeContext(),
                        getInternalParameters(),
                        PythonOperatorUtils.inBatchExecutionMode(getKeyedStateBackend()),
                        config.get(PythonOptions.PYTHON_METRIC_ENABLED),
                        config.get(PythonOptions.PYTHON_PROFILE_ENABLED),
                        getSideOutputTags().size() > 0,
                        config.get(PythonOptions.STATE_CACHE_SIZE),
                        config.get(PythonOptions.MAP_STATE_READ_CACHE_SIZE),
                        config.get(PythonOptions.MAP_STATE_WRITE_CACHE_SIZE)),
                getFlinkMetricContainer(),
                null,
                getOperatorStateBackend(),
                null,
                null,
                null,
                environment.getMemoryManager(),
                getOperatorConfig()
                        .getManagedMemoryFractionOperatorUseCaseOfSlot(
                                ManagedMemoryUseCase.PYTHON,
                                getContainingTask().getJobConfiguration(),
                                environment.getTaskManagerInfo().getConfiguration(),
                                environment.getUserCodeClassLoader().asClassLoader()),
                createInputCoderInfoDescriptor(),
                createOutputCoderInfoDescriptor(),
                null,
                createSideOutputCoderDescriptors()) {

            @Override
            public void process(byte[] data) throws Exception {
                if (data.length > HAND_OVER_SIZE) {
                    bytesOfLargeRecords += data.length;
                }
                super.process(data);
            }

            @Override
            public JobBundleFactory createJobBundleFactory(Struct pipelineOptions) throws Exception {
                PipelineOptions options = PipelineOptionsTranslation.fromProto(pipelineOptions);
                ExperimentalOptions.addExperiment(
                        options.as(ExperimentalOptions.class), "data_buffer_size_limit=" + HAND_OVER_SIZE);
                return new TolerantJobBundleFactory(
                        super.createJobBundleFactory(PipelineOptionsTranslation.toProto(options)));
            }
        };
    }
}
