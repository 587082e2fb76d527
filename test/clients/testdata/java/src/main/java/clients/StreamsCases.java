package clients;

import static clients.Env.equal;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;

import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;

/** Kafka Streams: a word count, exactly once, over a broker that dies under it. */
final class StreamsCases {
    static void add(Map<String, Main.Case> all) {
        all.put("streams/word-count-exactly-once", StreamsCases::wordCount);
    }

    private static KafkaStreams start(Env env, String app, String in, String out, Path dir) {
        var b = new StreamsBuilder();
        b.<String, String>stream(in)
                .flatMapValues(line -> Arrays.asList(line.split(" ")))
                .groupBy((k, word) -> word, Grouped.with(Serdes.String(), Serdes.String()))
                .count(Materialized.as("counts"))
                .toStream()
                .mapValues(n -> "" + n)
                .to(out, Produced.with(Serdes.String(), Serdes.String()));
        var p = new Properties();
        p.putAll(Map.of("application.id", app, "bootstrap.servers", env.bootstrap,
                "default.key.serde", Serdes.String().getClass(), "default.value.serde", Serdes.String().getClass(),
                "processing.guarantee", "exactly_once_v2", "state.dir", dir.toString(), "commit.interval.ms", "100",
                "replication.factor", "1", "statestore.cache.max.bytes", "0", "auto.offset.reset", "earliest"));
        p.put("request.timeout.ms", "5000");
        p.put("session.timeout.ms", "6000");
        p.put("heartbeat.interval.ms", "500");
        var s = env.keep(new KafkaStreams(b.build(), p));
        s.start();
        return s;
    }

    /** The last count of each word, as read_committed sees it; each count must come exactly once, in order. */
    private static Map<String, Integer> counts(Env env, String out, Map<String, Integer> want) throws Exception {
        Map<String, Integer> got = new TreeMap<>();
        var c = env.consumer("isolation.level", "read_committed");
        c.assign(List.of(new TopicPartition(out, 0)));
        Env.eventually("the counts are " + want, () -> {
            c.poll(java.time.Duration.ofMillis(200)).forEach(r ->
                    equal(Integer.valueOf(r.value()), got.merge(r.key(), 1, Integer::sum), "count of " + r.key()));
            return got.equals(want);
        });
        return got;
    }

    private static void wordCount(Env env) throws Exception {
        String in = env.topic(2);
        String out = env.topic(1);
        String app = env.unique();
        Path dir = Files.createTempDirectory("streams");
        var streams = start(env, app, in, out, dir);
        Map<String, Integer> want = new HashMap<>();
        try (var p = env.producer("request.timeout.ms", "5000")) {
            for (int i = 0; i < 600; i++) {
                String line = "all w" + i % 7 + " w" + i % 11;
                p.send(new ProducerRecord<>(in, "" + i, line));
                for (String w : line.split(" ")) {
                    want.merge(w, 1, Integer::sum);
                }
                if (i == 200) {
                    p.flush();
                    Env.eventually("it runs", () -> streams.state() == KafkaStreams.State.RUNNING);
                    Env.ask("kill");
                }
                if (i == 400) {
                    Env.ask("restart");
                }
            }
        }
        counts(env, out, want);
        streams.close();
        // A second instance without the first one's state folder restores it from the changelog.
        var again = start(env, app, in, out, Files.createTempDirectory("streams"));
        env.producer().send(new ProducerRecord<>(in, "k", "all")).get();
        want.merge("all", 1, Integer::sum);
        counts(env, out, want);
        Env.eventually("the second instance runs", () -> again.state() == KafkaStreams.State.RUNNING);
        again.close();
    }
}
