package org.sunbird.aggregates;

import org.apache.flink.streaming.api.operators.python.process.ExternalPythonProcessOperator;

/**
 * The operator of a Python function, which lets no checkpoint pass once a bundle has failed.
 *
 * <p>A bundle that ends by its timer fails in a callback, whose exception Flink reports to another thread. Until that
 * thread has ended the task, this one goes on. Is a barrier waiting, its checkpoint ends the bundle once more, which
 * Flink 2.3 takes for success because there is no bundle any more, and completes past the records that failed.
 */
public final class FailedBundleStaysFailedOperator<IN, OUT> extends ExternalPythonProcessOperator<IN, OUT> {

    private static final long serialVersionUID = 1L;

    private transient Throwable failure;

    public FailedBundleStaysFailedOperator(ExternalPythonProcessOperator<IN, OUT> operator) {
        super(
                operator.getConfiguration(),
                operator.getPythonFunctionInfo(),
                operator.getInputTypeInfo(),
                operator.getProducedType());
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
