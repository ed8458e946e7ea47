package org.sunbird.aggregates;

import java.io.IOException;
import java.util.Arrays;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonFactory;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonParser;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonToken;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.StreamReadConstraints;
import org.apache.flink.types.Row;
import org.apache.flink.util.Collector;

/**
 * Reads Kafka records as Row(user id STRING, Kafka timestamp in ms LONG, value BYTES).
 *
 * <p>The stream is keyed by the user id. Extracting the id here saves a round trip through Python for every event.
 * Events are validated in Python: an event without a readable user id gets another key here, and is rejected there.
 */
public final class UserKeySchema implements KafkaRecordDeserializationSchema<Row> {

    private static final long serialVersionUID = 1L;
    private static final int MAX_NESTING_DEPTH = 3_000;

    /**
     * The decoder in Python has no such limits. With Jackson's own, an event with a number of 1,001 digits or a name of
     * 50,001 characters would be valid there, but get another key than its user's here, and be applied out of order.
     * Only nesting stays limited: Python refuses what is nested more than about a thousand levels deep.
     */
    private static final JsonFactory JSON =
            JsonFactory.builder()
                    .streamReadConstraints(
                            StreamReadConstraints.builder()
                                    .maxNumberLength(Integer.MAX_VALUE)
                                    .maxStringLength(Integer.MAX_VALUE)
                                    .maxNameLength(Integer.MAX_VALUE)
                                    .maxDocumentLength(-1)
                                    .maxTokenCount(-1)
                                    .maxNestingDepth(MAX_NESTING_DEPTH)
                                    .build())
                    .build();

    private final String[] path;

    /** @param path the field names from the event's root to the user id; in an array, the first element counts. */
    public UserKeySchema(String[] path) {
        this.path = path;
    }

    @Override
    public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<Row> out) {
        byte[] value = record.value();
        // A null value is a tombstone: it deletes a key from a compacted topic and contains no event.
        if (value != null) {
            out.collect(Row.of(key(value), record.timestamp(), value));
        }
    }

    private String key(byte[] value) {
        String userId = null;
        try (JsonParser parser = JSON.createParser(value)) {
            parser.nextToken();
            userId = find(parser, 0);
        } catch (IOException | RuntimeException notJson) {
            // The decoder in Python reports what is wrong, and where.
        }
        // The order of events without a user does not matter, so any key that spreads them evenly will do.
        return userId != null ? userId : "\0" + Arrays.hashCode(value);
    }

    /** The string at the path below the parser's current value, or null. Moves the parser to the end of that value. */
    private String find(JsonParser parser, int depth) throws IOException {
        if (parser.currentToken() == JsonToken.START_ARRAY) {
            String found = null;
            for (int index = 0; parser.nextToken() != JsonToken.END_ARRAY; index++) {
                if (index == 0) {
                    found = find(parser, depth);
                } else {
                    parser.skipChildren();
                }
            }
            return found;
        }
        if (depth == path.length) {
            String text = parser.currentToken() == JsonToken.VALUE_STRING ? parser.getText() : null;
            parser.skipChildren();
            return text;
        }
        if (parser.currentToken() != JsonToken.START_OBJECT) {
            return null;
        }
        String found = null;
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            boolean onPath = parser.currentName().equals(path[depth]);
            parser.nextToken();
            if (onPath) {
                // If a name occurs twice, the last one counts, as in the decoder in Python.
                found = find(parser, depth + 1);
            } else {
                parser.skipChildren();
            }
        }
        return found;
    }

    @Override
    public TypeInformation<Row> getProducedType() {
        return Types.ROW(Types.STRING, Types.LONG, PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO);
    }
}
