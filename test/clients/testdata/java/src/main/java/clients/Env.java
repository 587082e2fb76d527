package clients;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** What a case works with: clients of the broker, topics of its own, checks. */
final class Env implements AutoCloseable {
    static final Duration TIMEOUT = Duration.ofSeconds(40);
    private static final BufferedReader STDIN = new BufferedReader(new InputStreamReader(System.in));

    final String bootstrap;
    final Admin admin;
    private final String name;
    private final List<AutoCloseable> open = new ArrayList<>();
    private int topics;

    Env(String bootstrap, String name) {
        this.bootstrap = bootstrap;
        this.name = name;
        boolean secure = name.startsWith("security/"); // those log in themselves
        this.admin = secure ? null : keep(Admin.create(Map.of("bootstrap.servers", bootstrap)));
    }

    /** Has the case's end close this. */
    <T extends AutoCloseable> T keep(T c) {
        open.add(0, c);
        return c;
    }

    @Override
    public void close() {
        for (AutoCloseable c : open) {
            try {
                if (c instanceof KafkaProducer<?, ?> p) {
                    p.close(Duration.ZERO); // a case that failed may have left one that waits
                } else {
                    c.close();
                }
            } catch (Exception e) {
                System.out.println("close " + c + ": " + e);
            }
        }
    }

    /** A name that no other case uses. */
    String unique() {
        return name.replaceAll("[^a-z0-9]+", "-") + "-" + topics++;
    }

    /** A new topic; configs are key, value, key, value... */
    String topic(int partitions, String... configs) throws Exception {
        String topic = unique();
        NewTopic t = new NewTopic(topic, partitions, (short) 1).configs(map((Object[]) configs));
        admin.createTopics(List.of(t)).all().get();
        // Apache Kafka's brokers learn of it a moment later.
        eventually("the new topic is known", () -> admin.describeTopics(List.of(topic)).allTopicNames().get() != null);
        return topic;
    }

    @SuppressWarnings("unchecked")
    static <V> Map<String, V> map(Object... pairs) {
        Map<String, V> m = new HashMap<>();
        for (int i = 0; i < pairs.length; i += 2) {
            m.put((String) pairs[i], (V) pairs[i + 1]);
        }
        return m;
    }

    KafkaProducer<String, String> producer(Object... configs) {
        Map<String, Object> m = map(configs);
        m.put("bootstrap.servers", bootstrap);
        m.putIfAbsent("request.timeout.ms", "10000");
        m.putIfAbsent("delivery.timeout.ms", "40000");
        return keep(new KafkaProducer<>(m, new StringSerializer(), new StringSerializer()));
    }

    KafkaConsumer<String, String> consumer(Object... configs) {
        Map<String, Object> m = map(configs);
        m.put("bootstrap.servers", bootstrap);
        m.putIfAbsent("auto.offset.reset", "earliest");
        m.putIfAbsent("enable.auto.commit", "false");
        return keep(new KafkaConsumer<>(m, new StringDeserializer(), new StringDeserializer()));
    }

    /** Produces values from..to-1, keyed by themselves, and waits for the acknowledgements. */
    void produce(String topic, int from, int to, Object... configs) throws Exception {
        try (KafkaProducer<String, String> p = producer(configs)) {
            List<java.util.concurrent.Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = from; i < to; i++) {
                sent.add(p.send(new ProducerRecord<>(topic, "" + i, "" + i)));
            }
            for (var f : sent) {
                f.get();
            }
        }
    }

    /** Polls until there are n records. */
    static List<ConsumerRecord<String, String>> read(Consumer<String, String> c, int n) {
        List<ConsumerRecord<String, String>> all = new ArrayList<>();
        long end = System.nanoTime() + TIMEOUT.toNanos();
        while (all.size() < n) {
            check(System.nanoTime() < end, "got %d records in time, want %d", all.size(), n);
            c.poll(Duration.ofMillis(200)).forEach(all::add);
        }
        return all;
    }

    /** Everything of partition 0 up to the end that this isolation level has now. */
    List<ConsumerRecord<String, String>> all(String topic, String isolation) {
        var tp = new TopicPartition(topic, 0);
        List<ConsumerRecord<String, String>> got = new ArrayList<>();
        try (var c = consumer("isolation.level", isolation)) {
            c.assign(List.of(tp));
            long last = c.endOffsets(List.of(tp)).get(tp);
            long end = System.nanoTime() + TIMEOUT.toNanos();
            while (c.position(tp) < last) {
                check(System.nanoTime() < end, "%s stands at %d, want %d", isolation, c.position(tp), last);
                c.poll(Duration.ofMillis(200)).forEach(got::add);
            }
        }
        return got;
    }

    static List<String> values(List<ConsumerRecord<String, String>> records) {
        return records.stream().map(ConsumerRecord::value).toList();
    }

    /** The values first..last-1 as text. */
    static List<String> range(int first, int last) {
        List<String> all = new ArrayList<>();
        for (int i = first; i < last; i++) {
            all.add("" + i);
        }
        return all;
    }

    static void check(boolean ok, String what, Object... args) {
        if (!ok) {
            throw new AssertionError(String.format(what, args));
        }
    }

    static void equal(Object got, Object want, String what) {
        check(Objects.equals(got, want), "%s: got %s, want %s", what, got, want);
    }

    /** Fails unless the call throws this exception, alone or as a cause. */
    static <T extends Throwable> T expect(Class<T> want, Callable<?> call) {
        Throwable e;
        try {
            throw new AssertionError("got " + call.call() + ", want " + want.getSimpleName());
        } catch (Exception got) {
            e = got;
        }
        for (Throwable c = e; c != null; c = c.getCause()) {
            if (want.isInstance(c)) {
                return want.cast(c);
            }
        }
        throw new AssertionError("want " + want.getSimpleName(), e);
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    static void eventually(String what, Condition c) throws Exception {
        long end = System.nanoTime() + TIMEOUT.toNanos();
        Exception last = null;
        while (System.nanoTime() < end) {
            try {
                if (c.holds()) {
                    return;
                }
            } catch (ExecutionException e) {
                last = e;
            }
            TimeUnit.MILLISECONDS.sleep(50);
        }
        throw new AssertionError("in time this never was: " + what, last);
    }

    /** Has the test do something to the broker: "restart" or "kill" (and start again). */
    static void ask(String what) throws Exception {
        System.out.println("@" + what);
        equal(STDIN.readLine(), "done", what);
    }
}
