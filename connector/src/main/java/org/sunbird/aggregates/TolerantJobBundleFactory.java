package org.sunbird.aggregates;

import org.apache.beam.runners.core.construction.graph.ExecutableStage;
import org.apache.beam.runners.fnexecution.control.JobBundleFactory;
import org.apache.beam.runners.fnexecution.control.StageBundleFactory;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Beam's bundle factory, which here can also be closed after the last bundle has closed the worker.
 *
 * <p>Beam closes a worker when its reference count reaches 0. A cancelled task releases its own reference, and then
 * those of unfinished bundles. PyFlink finishes bundles in another thread. If that thread finishes the last bundle
 * between the two steps, it closes the worker, and the second step makes the count negative. Everything is closed by
 * then, but Beam throws an exception. Flink treats that as fatal and ends the whole TaskManager, with the tasks of all
 * other jobs.
 */
public record TolerantJobBundleFactory(JobBundleFactory factory) implements JobBundleFactory {

    private static final Logger LOG = LoggerFactory.getLogger(TolerantJobBundleFactory.class);
    private static final String BELOW_ZERO = "Reference count must not be negative.";

    @Override
    public StageBundleFactory forStage(ExecutableStage stage) {
        return factory.forStage(stage);
    }

    @Override
    public void close() throws Exception {
        try {
            factory.close();
        } catch (IllegalStateException e) {
            if (!BELOW_ZERO.equals(e.getMessage())) {
                throw e;
            }
            LOG.info("The last bundle has closed the Python worker.");
        }
    }
}
