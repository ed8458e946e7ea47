package org.sunbird.aggregates;

import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.Phaser;
import org.apache.beam.model.fnexecution.v1.BeamFnApi.Elements;
import org.apache.beam.runners.fnexecution.control.RemoteBundle;
import org.apache.beam.sdk.fn.CancellableQueue;
import org.apache.beam.sdk.fn.data.BeamFnDataInboundObserver;
import org.apache.beam.sdk.fn.data.BeamFnDataOutboundAggregator;
import org.apache.beam.sdk.fn.stream.DirectStreamObserver;
import org.apache.beam.vendor.grpc.v1p60p1.io.grpc.stub.ServerCallStreamObserver;
import org.apache.flink.streaming.api.runners.python.beam.BeamPythonFunctionRunner;

/**
 * Moves records and results of a bundle that stays open. Beam 2.61 does so only at the bundle's end: it collects records
 * until then, or until it has many of them, and leaves results in a queue of 100 portions.
 *
 * <p>It also makes Beam wait for Python after each hand-over. Beam does so after a hundred, and until then they lie on
 * the heap: a hundred megabytes, if a record is a megabyte.
 *
 * <p>Beam can hand over records at an interval of its own (its experiment <code>data_buffer_time_limit_ms</code>). But it
 * passes that option on to Python, where Beam's timer and the writer use one buffer without a lock. Hence the private
 * parts of Flink 2.3 and Beam 2.61. The methods are to be called by the task's thread if they do not say otherwise.
 */
final class OpenBundle {

    private final BeamFnDataOutboundAggregator records;
    private final BeamFnDataInboundObserver results;
    private final CancellableQueue<?> portions;
    private final ServerCallStreamObserver<?> worker;
    private final Phaser workerTakesRecords;
    private final CompletableFuture<?> response;

    /** The bundle that <code>runner</code> has open. */
    OpenBundle(BeamPythonFunctionRunner runner) throws ReflectiveOperationException {
        RemoteBundle counted =
                (RemoteBundle) read(BeamPythonFunctionRunner.class, runner, "remoteBundle");
        Object bundle = read(counted.getClass(), counted, "val$bundle");
        records = (BeamFnDataOutboundAggregator)
                read(bundle.getClass(), bundle, "beamFnDataOutboundAggregator");
        results = (BeamFnDataInboundObserver)
                ((Optional<?>) read(bundle.getClass(), bundle, "beamFnDataInboundObserver")).orElseThrow();
        portions = (CancellableQueue<?>) read(BeamFnDataInboundObserver.class, results, "queue");
        Object observer = read(BeamFnDataOutboundAggregator.class, records, "outboundObserver");
        field(DirectStreamObserver.class, "maxMessagesBeforeCheck").setInt(observer, 1);
        worker = (ServerCallStreamObserver<?>) read(DirectStreamObserver.class, observer, "outboundObserver");
        workerTakesRecords = (Phaser) read(DirectStreamObserver.class, observer, "phaser");
        response = ((CompletionStage<?>) read(bundle.getClass(), bundle, "response")).toCompletableFuture();
    }

    /** Whether the worker has said that it failed. For any thread. */
    boolean hasFailed() {
        return response.isCompletedExceptionally();
    }

    /** Ends the wait of a hand-over, now or later: for when nobody will take the records. For any thread. */
    void stopWaiting() {
        workerTakesRecords.forceTermination();
    }

    /**
     * Ends what waits for ever in Beam: a hand-over to a worker whose connection has ended, or that failed before it took
     * records, and the wait for the last results of a worker that has answered and then gone. For any thread.
     */
    void stopWaitingInVain() throws Exception {
        boolean isGone = worker.isCancelled();
        if (isGone || hasFailed()) {
            stopWaiting();
        }
        // Without an answer the wait has not begun. The answer that never comes fails the bundle then.
        if (isGone && response.isDone() && !hasFailed()) {
            results.close();
        }
    }

    /** Hands over to Python what has been collected. */
    void flushRecords() throws ReflectiveOperationException {
        Method flush = BeamFnDataOutboundAggregator.class.getDeclaredMethod("flush");
        flush.setAccessible(true);
        flush.invoke(records);
    }

    /** Passes the results that have arrived to the runner. Throws what the bundle has failed with. */
    void takeResults() throws Exception {
        while ((int) read(CancellableQueue.class, portions, "count") > 0) {
            results.multiplexElements((Elements) portions.take());
        }
    }

    private static Object read(Class<?> owner, Object object, String name) throws ReflectiveOperationException {
        return field(owner, name).get(object);
    }

    private static Field field(Class<?> owner, String name) throws NoSuchFieldException {
        Field field = owner.getDeclaredField(name);
        field.setAccessible(true);
        return field;
    }
}
