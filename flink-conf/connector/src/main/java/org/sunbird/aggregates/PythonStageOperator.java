package org.sunbird.aggregates;

import java.time.Duration;
import org.apache.flink.configuration.ExecutionOptions;
import org.apache.flink.streaming.api.operators.python.process.ExternalPythonProcessOperator;

/**
 * PyFlink's operator of a Python function, with two differences.
 *
 * <p><b>Once a bundle has failed, no checkpoint passes.</b> A bundle that ends by its timer fails in a callback, whose
 * exception Flink reports to another thread. Until that thread has ended the task, this one goes on. Is a barrier
 * waiting, its checkpoint ends the bundle once more, which Flink 2.3 takes for success because there is no bundle any
 * more, and completes past the records that failed.
 *
 * <p><b>A bundle ends as soon as no record has come</b> for <code>execution.buffer-timeout.interval</code>. At each end
 * of a bundle the whole stage runs dry, so bundles are long; but PyFlink hands a few records over to Python only when
 * their bundle ends, and those need not wait for company that does not come.
 */
public final class PythonStageOperator<IN, OUT> extends ExternalPythonProcessOperator<IN, OUT> {

    private static final long serialVersionUID = 1L;

    private transient Throwable failure;
    private transient int elementCountAtLastLook;

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
        Duration bufferTimeout = config.get(ExecutionOptions.BUFFER_TIMEOUT);
        long period = Math.max(1, bufferTimeout.toMillis());
        getProcessingTimeService().scheduleAtFixedRate(timestamp -> finishIdleBundle(), period, period);
    }

    private void finishIdleBundle() throws Exception {
        if (elementCount > 0 && elementCount == elementCountAtLastLook) {
            invokeFinishBundle();
        }
        elementCountAtLastLook = elementCount;
    }

    @Override
    protected void invokeFinishBundle() throws Exception {
        if (failure != null) {
            throw new IllegalStateException("An earlier bundle of this task has failed", failure);
        }
        try {
            super.invokeFinishBundle();
        } catch (Throwable t) {
            failure = t;
            throw t;
        }
    }
}
