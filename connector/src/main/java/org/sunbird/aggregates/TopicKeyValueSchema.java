package org.sunbird.aggregates;

import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.flink.types.Row;

/**
 * Writes Row(topic STRING, key BYTES or null, value BYTES) to Kafka unchanged.
 *
 * <p>PyFlink's own serialization schemas can set the topic and the value of each record, but not its key.
 */
public final class TopicKeyValueSchema implements KafkaRecordSerializationSchema<Row> {

    private static final long serialVersionUID = 1L;

    @Override
    public ProducerRecord<byte[], byte[]> serialize(Row row, KafkaSinkContext context, Long timestamp) {
        return new ProducerRecord<>(
                (String) row.getField(0), (byte[]) row.getField(1), (byte[]) row.getField(2));
    }
}
