import java.io.File;
import java.nio.ByteBuffer;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.state.Stores;

/** Kafka Streams: aggregate by key in an in-memory store without cache and changelog. */
public class Fold {
  static final int HEADER_BYTES = 10;
  static final double HALF_LIFE_US = 90.0 * 86_400 * 1_000_000;
  static final Map<String, Double> VALENCE = Map.of("succeeded", 0.4, "failed", -0.8, "abandoned", -0.5);

  public static void main(String[] arguments) throws Exception {
    String schemaFile = arguments[0], bootstrap = arguments[2];
    long expected = Long.parseLong(arguments[4]);
    var reader = new GenericDatumReader<GenericRecord>(new Schema.Parser().parse(new File(schemaFile)));
    var decoders = ThreadLocal.<BinaryDecoder>withInitial(() -> null);
    var seen = new AtomicLong();
    var started = new AtomicLong();

    var builder = new StreamsBuilder();
    builder.stream("touchpoints", Consumed.with(Serdes.String(), Serdes.ByteArray()))
        .groupByKey()
        .aggregate(
            () -> new byte[24],
            (customer, value, state) -> {
              started.compareAndSet(0, System.nanoTime());
              GenericRecord event;
              try {
                var decoder = DecoderFactory.get()
                    .binaryDecoder(value, HEADER_BYTES, value.length - HEADER_BYTES, decoders.get());
                decoders.set(decoder);
                event = reader.read(null, decoder);
              } catch (java.io.IOException error) {
                throw new IllegalStateException(error);
              }
              byte[] folded = fold(state, (Long) event.get("occurred_at"), event.get("outcome"));
              if (seen.incrementAndGet() == expected) {
                double seconds = (System.nanoTime() - started.get()) / 1e9;
                System.out.println("{\"events\": " + expected + ", \"seconds\": " + seconds + "}");
                System.out.flush();
                Runtime.getRuntime().halt(0);
              }
              return folded;
            },
            Materialized.<String, byte[]>as(Stores.inMemoryKeyValueStore("sums"))
                .withKeySerde(Serdes.String())
                .withValueSerde(Serdes.ByteArray())
                .withCachingDisabled()
                .withLoggingDisabled());

    var settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "peer-kafka-streams");
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, "streams-state");
    settings.put("auto.offset.reset", "earliest");
    settings.put("max.poll.records", "10000");
    var streams = new KafkaStreams(builder.build(), settings);
    streams.start();
    Thread.currentThread().join();
  }

  /** Reference time and both sums, as 24 bytes. */
  static byte[] fold(byte[] state, long at, Object outcome) {
    var known = ByteBuffer.wrap(state);
    long reference = known.getLong(), latest = Math.max(reference, at);
    double fade = Math.pow(2, (reference - latest) / HALF_LIFE_US), share = Math.pow(2, (at - latest) / HALF_LIFE_US);
    double valence = outcome == null ? 0 : VALENCE.get(outcome.toString());
    double weight = known.getDouble() * fade + share, weighted = known.getDouble() * fade + valence * share;
    return ByteBuffer.allocate(24).putLong(latest).putDouble(weight).putDouble(weighted).array();
  }
}
