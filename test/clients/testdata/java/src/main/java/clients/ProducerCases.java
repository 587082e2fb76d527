package clients;

import static clients.Env.check;
import static clients.Env.equal;
import static clients.Env.expect;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;

import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidTimestampException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;

/** The producer, without transactions. */
final class ProducerCases {
    static void add(Map<String, Main.Case> all) {
        for (String acks : List.of("0", "1", "all")) {
            all.put("producer/acks-" + acks, env -> acks(env, acks));
        }
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            all.put("producer/compression-" + codec, env -> compression(env, codec));
        }
        all.put("producer/idempotent-across-kill", ProducerCases::idempotentAcrossKill);
        all.put("producer/record-intact", ProducerCases::recordIntact);
        all.put("producer/log-append-time", ProducerCases::logAppendTime);
        all.put("producer/too-large", ProducerCases::tooLarge);
        all.put("producer/bad-topic", ProducerCases::badTopic);
        all.put("producer/compacted-needs-key", ProducerCases::compactedNeedsKey);
        all.put("producer/compaction-keeps-the-last", ProducerCases::compaction);
        all.put("producer/timestamp-bounds", ProducerCases::timestampBounds);
    }

    private static void acks(Env env, String acks) throws Exception {
        String topic = env.topic(3);
        env.produce(topic, 0, 500, "acks", acks, "enable.idempotence", "" + acks.equals("all"));
        var c = env.consumer();
        c.assign(List.of(new TopicPartition(topic, 0), new TopicPartition(topic, 1), new TopicPartition(topic, 2)));
        List<String> got = new ArrayList<>(Env.values(Env.read(c, 500)));
        got.sort((a, b) -> Integer.parseInt(a) - Integer.parseInt(b));
        equal(got, Env.range(0, 500), "values");
    }

    private static void compression(Env env, String codec) throws Exception {
        String topic = env.topic(1);
        String value = "compress me ".repeat(500);
        try (var p = env.producer("compression.type", codec, "linger.ms", "20")) {
            for (int i = 0; i < 50; i++) {
                p.send(new ProducerRecord<>(topic, value + i));
            }
        }
        var c = env.consumer();
        c.assign(List.of(new TopicPartition(topic, 0)));
        List<ConsumerRecord<String, String>> got = Env.read(c, 50);
        for (int i = 0; i < 50; i++) {
            equal(got.get(i).value(), value + i, "value " + i);
        }
        long size = env.admin.describeLogDirs(List.of(1)).allDescriptions().get().get(1).values().iterator().next()
                .replicaInfos().get(new TopicPartition(topic, 0)).size();
        check((size < 100_000) == !codec.equals("none"), "300 kB of text take %d bytes in the log", size);
    }

    /** Nothing acknowledged is lost, nothing is there twice, order holds. */
    private static void idempotentAcrossKill(Env env) throws Exception {
        String topic = env.topic(1);
        KafkaProducer<String, String> p = env.producer("delivery.timeout.ms", "60000", "request.timeout.ms", "5000",
                "reconnect.backoff.max.ms", "200", "batch.size", "500");
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (int i = 0; i < 3000; i++) {
            sent.add(p.send(new ProducerRecord<>(topic, "" + i)));
            if (i == 1000 || i == 2000) {
                Env.ask("kill");
            }
        }
        for (int i = 0; i < sent.size(); i++) {
            equal(sent.get(i).get().offset(), (long) i, "offset of record " + i);
        }
        var c = env.consumer();
        c.assign(List.of(new TopicPartition(topic, 0)));
        equal(Env.values(Env.read(c, 3000)), Env.range(0, 3000), "values in order");
    }

    private static void recordIntact(Env env) throws Exception {
        String topic = env.topic(1);
        try (var p = env.producer()) {
            var r = new ProducerRecord<>(topic, 0, 1_700_000_000_123L, "key", "value");
            r.headers().add(new RecordHeader("h", "one".getBytes(StandardCharsets.UTF_8)));
            r.headers().add(new RecordHeader("h", null));
            RecordMetadata m = p.send(r).get();
            equal(m.timestamp(), 1_700_000_000_123L, "acknowledged timestamp");
            p.send(new ProducerRecord<>(topic, 0, null, null)).get();
        }
        var c = env.consumer();
        c.assign(List.of(new TopicPartition(topic, 0)));
        var got = Env.read(c, 2);
        var r = got.get(0);
        equal(List.of(r.key(), r.value(), r.timestamp(), r.timestampType()),
                List.of("key", "value", 1_700_000_000_123L, TimestampType.CREATE_TIME), "record");
        equal(new String(r.headers().toArray()[0].value(), StandardCharsets.UTF_8), "one", "header");
        equal(r.headers().toArray()[1].value(), null, "null header");
        check(got.get(1).key() == null && got.get(1).value() == null, "null key and value came back as %s", got.get(1));
    }

    private static void logAppendTime(Env env) throws Exception {
        String topic = env.topic(1, "message.timestamp.type", "LogAppendTime");
        long before = System.currentTimeMillis();
        RecordMetadata m = env.producer().send(new ProducerRecord<>(topic, 0, 1000L, "k", "v")).get();
        check(m.timestamp() >= before - 1000, "acknowledged timestamp %d is not the broker's", m.timestamp());
        var c = env.consumer();
        c.assign(List.of(new TopicPartition(topic, 0)));
        var r = Env.read(c, 1).get(0);
        equal(r.timestampType(), TimestampType.LOG_APPEND_TIME, "timestamp type");
        equal(r.timestamp(), m.timestamp(), "timestamp");
    }

    private static void tooLarge(Env env) throws Exception {
        String topic = env.topic(1, "max.message.bytes", "10000");
        var p = env.producer();
        expect(RecordTooLargeException.class, () -> p.send(new ProducerRecord<>(topic, "x".repeat(20_000))).get());
        equal(p.send(new ProducerRecord<>(topic, "fits")).get().offset(), 0L, "offset of the next record");
    }

    private static void badTopic(Env env) {
        var p = env.producer("max.block.ms", "10000");
        expect(InvalidTopicException.class, () -> p.send(new ProducerRecord<>("no spaces", "v")).get());
    }

    private static void compactedNeedsKey(Env env) throws Exception {
        String topic = env.topic(1, "cleanup.policy", "compact");
        var p = env.producer();
        expect(org.apache.kafka.common.InvalidRecordException.class, () -> p.send(new ProducerRecord<>(topic, "no key")).get());
        equal(p.send(new ProducerRecord<>(topic, "k", "v")).get().offset(), 0L, "offset of the keyed record");
    }

    /** While it goes on, every reader finds the newest value of each key, and offsets that only grow. */
    private static void compaction(Env env) throws Exception {
        String topic = env.topic(1, "cleanup.policy", "compact", "segment.ms", "200", "min.cleanable.dirty.ratio", "0.01");
        var p = env.producer();
        Map<String, String> want = new HashMap<>();
        int[] n = {0};
        Env.eventually("most of what is superseded is gone", () -> {
            Future<RecordMetadata> last = null;
            for (int i = 0; i < 50; i++, n[0]++) {
                want.put("k" + n[0] % 5, "" + n[0]);
                last = p.send(new ProducerRecord<>(topic, "k" + n[0] % 5, "" + n[0]));
            }
            last.get();
            Map<String, String> got = new HashMap<>();
            long before = -1;
            var all = env.all(topic, "read_uncommitted");
            for (var r : all) {
                check(r.offset() > before, "offset %d after %d", r.offset(), before);
                before = r.offset();
                got.put(r.key(), r.value());
            }
            equal(got, want, "newest values");
            return all.size() < n[0] / 2;
        });
    }

    private static void timestampBounds(Env env) throws Exception {
        String topic = env.topic(1, "message.timestamp.before.max.ms", "60000", "message.timestamp.after.max.ms", "60000");
        var p = env.producer();
        long now = System.currentTimeMillis();
        expect(InvalidTimestampException.class, () -> p.send(new ProducerRecord<>(topic, 0, now - 3_600_000, "k", "v")).get());
        expect(InvalidTimestampException.class, () -> p.send(new ProducerRecord<>(topic, 0, now + 3_600_000, "k", "v")).get());
        p.send(new ProducerRecord<>(topic, 0, now, "k", "v")).get();
    }
}
