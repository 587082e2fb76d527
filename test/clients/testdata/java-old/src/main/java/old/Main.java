package old;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

import org.apache.kafka.clients.admin.AdminClient;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** The oldest Java client; its cases are reported as clients.Main says. */
public final class Main {
    interface Case {
        void run(String topic) throws Exception;
    }

    private static String bootstrap;

    public static void main(String[] args) {
        bootstrap = args[0];
        Map<String, Case> all = new LinkedHashMap<>();
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            all.put("compression-" + codec, topic -> compression(topic, codec));
        }
        all.put("transactions", Main::transactions);
        all.put("group", Main::group);
        all.put("admin", Main::admin);
        all.forEach((name, c) -> {
            System.out.println("@begin " + name);
            try {
                c.run("old-" + name);
                System.out.println("@pass " + name);
            } catch (Throwable e) {
                e.printStackTrace(System.out);
                System.out.println("@fail " + name);
            }
        });
        System.exit(0);
    }

    private static Map<String, Object> config(String... pairs) {
        Map<String, Object> m = new HashMap<>();
        m.put("bootstrap.servers", bootstrap);
        for (int i = 0; i < pairs.length; i += 2) {
            m.put(pairs[i], pairs[i + 1]);
        }
        return m;
    }

    private static void equal(Object got, Object want, String what) {
        if (!got.equals(want)) {
            throw new AssertionError(what + ": got " + got + ", want " + want);
        }
    }

    private static void make(String topic) throws Exception {
        try (AdminClient a = AdminClient.create(config())) {
            a.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get();
        }
    }

    private static KafkaProducer<String, String> producer(String... pairs) {
        return new KafkaProducer<>(config(pairs), new StringSerializer(), new StringSerializer());
    }

    private static void send(KafkaProducer<String, String> p, String topic, int from, int to) {
        for (int i = from; i < to; i++) {
            p.send(new ProducerRecord<>(topic, "" + i, "" + i));
        }
        p.flush();
    }

    private static List<String> range(int from, int to) {
        List<String> all = new ArrayList<>();
        for (int i = from; i < to; i++) {
            all.add("" + i);
        }
        return all;
    }

    /** A member of a group reads n records and commits. */
    private static List<String> read(String topic, String isolation, int n) {
        List<String> got = new ArrayList<>();
        try (var c = new KafkaConsumer<>(config("group.id", topic, "auto.offset.reset", "earliest", "enable.auto.commit", "false",
                "isolation.level", isolation), new StringDeserializer(), new StringDeserializer())) {
            c.subscribe(List.of(topic));
            for (long end = System.nanoTime() + 40_000_000_000L; got.size() < n && System.nanoTime() < end;) {
                c.poll(Duration.ofMillis(200)).forEach(r -> got.add(r.value()));
            }
            c.commitSync();
        }
        return got;
    }

    private static void compression(String topic, String codec) throws Exception {
        make(topic);
        try (var p = producer("compression.type", codec, "enable.idempotence", "true")) {
            send(p, topic, 0, 500);
        }
        equal(read(topic, "read_uncommitted", 500), range(0, 500), "values");
    }

    private static void transactions(String topic) throws Exception {
        make(topic);
        try (var p = producer("transactional.id", topic)) {
            p.initTransactions();
            for (int i = 0; i < 3; i++) {
                p.beginTransaction();
                send(p, topic, 10 * i, 10 * i + 10);
                p.sendOffsetsToTransaction(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(i + 1)), topic + "-offsets");
                if (i == 1) {
                    p.abortTransaction();
                } else {
                    p.commitTransaction();
                }
            }
        }
        List<String> want = range(0, 10);
        want.addAll(range(20, 30));
        equal(read(topic, "read_committed", 20), want, "committed");
        try (AdminClient a = AdminClient.create(config())) {
            equal(a.listConsumerGroupOffsets(topic + "-offsets").partitionsToOffsetAndMetadata().get().get(new TopicPartition(topic, 0)).offset(),
                    3L, "offset");
        }
    }

    private static void group(String topic) throws Exception {
        make(topic);
        try (var p = producer("acks", "all")) {
            send(p, topic, 0, 50);
            equal(read(topic, "read_uncommitted", 50), range(0, 50), "values");
            send(p, topic, 50, 100);
            equal(read(topic, "read_uncommitted", 50), range(50, 100), "values after the commit");
        }
    }

    private static void admin(String topic) throws Exception {
        make(topic);
        try (AdminClient a = AdminClient.create(config()); var p = producer("acks", "all")) {
            a.createPartitions(Map.of(topic, NewPartitions.increaseTo(2))).all().get();
            equal(a.describeTopics(List.of(topic)).all().get().get(topic).partitions().size(), 2, "partitions");
            var r = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            equal(a.describeConfigs(List.of(r)).all().get().get(r).get("cleanup.policy").value(), "delete", "cleanup.policy");
            p.send(new ProducerRecord<>(topic, 0, "k", "v")).get();
            var tp = new TopicPartition(topic, 0);
            equal(a.deleteRecords(Map.of(tp, RecordsToDelete.beforeOffset(1))).lowWatermarks().get(tp).get().lowWatermark(), 1L, "low watermark");
            equal(a.describeLogDirs(List.of(1)).all().get().get(1).size(), 1, "log folders");
            equal(a.describeCluster().nodes().get().size(), 1, "nodes");
            a.deleteTopics(List.of(topic)).all().get();
        }
    }
}
