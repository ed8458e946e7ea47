package org.sunbird.aggregates;

import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import org.apache.beam.runners.core.construction.PipelineOptionsTranslation;
import org.apache.beam.runners.fnexecution.control.JobBundleFactory;
import org.apache.beam.sdk.options.ExperimentalOptions;
import org.apache.beam.sdk.options.PipelineOptions;
import org.apache.beam.vendor.grpc.v1p60p1.com.google.protobuf.ListValue;
import org.apache.beam.vendor.grpc.v1p60p1.com.google.protobuf.Struct;
import org.apache.beam.vendor.grpc.v1p60p1.com.google.protobuf.Value;
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
 * PyFlink's operator of a Python function, with five differences.
 *
 * <p><b>No checkpoint completes after a bundle has failed.</b> When a timer finishes a bundle and the bundle fails, Flink
 * reports the exception to another thread. Until that thread has ended the task, this one continues. If a barrier is
 * waiting, its checkpoint finishes the bundle again. By then there is no bundle, which Flink 2.3 treats as success, so
 * without this class the checkpoint would complete past the failed records.
 *
 * <p><b>A task that ends does not end its TaskManager.</b> See {@link TolerantJobBundleFactory}.
 *
 * <p><b>Nothing waits for the end of its bundle.</b> The whole stage drains at the end of each bundle, so bundles must
 * be long. But PyFlink passes records to Python only when it has a megabyte of them, or when the bundle ends. Here
 * Python gets them as soon as there are no more for the moment: when the task has been idle for most of the last
 * <code>execution.buffer-timeout.interval</code>. With a backlog it gets the first ones while the next are still being
 * collected. Messages that Python has sent are passed on at the same interval. A bundle ends when no record has come for
 * {@link #QUIET_LOOKS} intervals. By then most records are done, so the drain costs little.
 *
 * <p><b>Few records are on their way.</b> With a backlog, Beam would hand over a hundred chunks before it waits for
 * Python (see {@link OpenBundle}), and gRPC would hold megabytes (see <code>fixed_window.py</code>).
 *
 * <p><b>A worker that has gone or failed fails its task.</b> With a backlog, the task mostly waits until Python takes more
 * records, and Beam does not notice there that nobody will. Another thread looks. A task that is cancelled does not wait for
 * Python either: the thread that closes it needs a lock of the one that waits.
 */
public final class PythonStageOperator<IN, OUT> extends ExternalPythonProcessOperator<IN, OUT> {

    private static final long serialVersionUID = 1L;

    /** In bytes. Each hand-over costs Python about as much as one or two records. */
    private static final int HAND_OVER_SIZE = 64 * 1024;

    /** The Python module that a worker imports before it connects, so that gRPC holds few records on their way to it. */
    private static final Value FIXED_WINDOW = Value.newBuilder()
            .setListValue(ListValue.newBuilder()
                    .addValues(Value.newBuilder().setStringValue("common.flink.patches.fixed_window")))
            .build();

    /** With a backlog, the source waits for Kafka for a moment after each fetch. That must not end the bundle. */
    private static final int QUIET_LOOKS = 5;

    private transient Throwable failure;
    private transient long bufferTimeoutMillis;
    private transient TimerGauge idleTime;
    private transient long idleMillisAtLastLook;
    private transient int elementsAtLastLook;
    private transient int quietLooks;
    private transient BeamDataStreamPythonFunctionRunner runner;
    private transient OpenBundle openBundle;
    /** The latest bundle, open or not: all bundles have the same connection to the worker. */
    private transient volatile OpenBundle latestBundle;

    private transient ScheduledExecutorService workerWatch;

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
        workerWatch = Executors.newSingleThreadScheduledExecutor(work -> {
            Thread thread = new Thread(work, "watch of the Python worker of " + getOperatorName());
            thread.setDaemon(true);
            return thread;
        });
        workerWatch.scheduleWithFixedDelay(this::lookAtWorker, 1, 1, TimeUnit.SECONDS);
    }

    private void lookAtWorker() {
        OpenBundle bundle = latestBundle;
        if (bundle != null) {
            try {
                bundle.stopWaitingInVain();
            } catch (Exception e) {
                LOG.error("Cannot end the wait for a Python worker that is gone", e);
            }
        }
    }

    @Override
    public void close() throws Exception {
        try {
            if (latestBundle != null) {
                latestBundle.stopWaiting();
            }
            super.close();
        } finally {
            if (workerWatch != null) {
                workerWatch.shutdownNow();
            }
        }
    }

    /** Each timer registers the next one. Fixed-rate timers would pile up while a bundle ends, then all fire at once. */
    private void lookAgain() {
        ProcessingTimeService timeService = getProcessingTimeService();
        timeService.registerTimer(
                timeService.getCurrentProcessingTime() + bufferTimeoutMillis, timestamp -> lookAtBundle());
    }

    private void lookAtBundle() throws Exception {
        long idleMillis = idleTime.getAccumulatedCount();
        boolean wasIdle = 2 * (idleMillis - idleMillisAtLastLook) > bufferTimeoutMillis;
        idleMillisAtLastLook = idleMillis;
        if (elementCount > 0) {
            try {
                openBundle.takeResults();
                emitResults();
                if (wasIdle) {
                    handOverOrFinishBundle();
                }
            } catch (Throwable t) {
                // Whatever a timer throws is reported to another thread: see the first difference above.
                failure = t;
                throw t;
            }
        }
        lookAgain();
    }

    private void handOverOrFinishBundle() throws Exception {
        if (elementCount > elementsAtLastLook) {
            elementsAtLastLook = elementCount;
            quietLooks = 0;
            openBundle.flushRecords();
        } else if (++quietLooks == QUIET_LOOKS) {
            invokeFinishBundle();
        }
    }

    @Override
    public void processElement(StreamRecord<IN> element) throws Exception {
        super.processElement(element);
        if (openBundle == null && elementCount > 0) {
            openBundle = new OpenBundle(runner);
            latestBundle = openBundle;
        }
        if (openBundle != null && openBundle.hasFailed()) {
            // It throws the worker's reason. Until then, nothing waits for the worker, and records would pile up.
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
            elementsAtLastLook = 0;
            quietLooks = 0;
            openBundle = null;
        } catch (Throwable t) {
            failure = t;
            throw t;
        }
    }

    /** Like the superclass, but with our options for Beam and its worker, and a factory that can be closed twice. */
    @Override
    public PythonFunctionRunner createPythonFunctionRunner() throws Exception {
        Environment environment = getContainingTask().getEnvironment();
        runner = new BeamDataStreamPythonFunctionRunner(
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
            public JobBundleFactory createJobBundleFactory(Struct pipelineOptions) throws Exception {
                PipelineOptions options = PipelineOptionsTranslation.fromProto(pipelineOptions);
                ExperimentalOptions.addExperiment(
                        options.as(ExperimentalOptions.class), "data_buffer_size_limit=" + HAND_OVER_SIZE);
                Struct withPlugins = PipelineOptionsTranslation.toProto(options).toBuilder()
                        .putFields("beam:option:beam_plugins:v1", FIXED_WINDOW)
                        .build();
                return new TolerantJobBundleFactory(super.createJobBundleFactory(withPlugins));
            }
        };
        return runner;
    }
}
