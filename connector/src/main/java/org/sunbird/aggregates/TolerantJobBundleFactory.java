package org.sunbird.aggregates;

import org.apache.beam.runners.core.construction.graph.ExecutableStage;
import org.apache.beam.runners.fnexecution.control.JobBundleFactory;
import org.apache.beam.runners.fnexecution.control.StageBundleFactory;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Beam's factory of bundles, which closes also when the last bundle has closed the worker already.
 *
 * <p>Beam closes a worker when nothing refers to it any more. A task that is cancelled gives up its own reference, and
 * then those of bundles that have not ended. PyFlink ends bundles in another thread: if that one is done between the two,
 * it closes the worker, and the task's count goes below 0. By then all is closed, but Beam throws, which Flink takes for
 * fatal: it ends the whole TaskManager, with the tasks of all other jobs.
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
