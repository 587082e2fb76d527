package clients;

import static clients.Env.check;
import static clients.Env.equal;
import static clients.Env.expect;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Set;

import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** The consumer without a group's help: positions, offsets, times. */
final class ConsumerCases {
    static void add(Map<String, Main.Case> all) {
        all.put("consumer/seek", ConsumerCases::seek);
        all.put("consumer/offsets-for-times", ConsumerCases::offsetsForTimes);
        all.put("consumer/pause-and-resume", ConsumerCases::pause);
        all.put("consumer/large-records", ConsumerCases::largeRecords);
        all.put("consumer/small-fetches", ConsumerCases::smallFetches);
        all.put("consumer/many-partitions", ConsumerCases::manyPartitions);
        all.put("consumer/reset-none", ConsumerCases::resetNone);
        all.put("consumer/reset-by-duration", ConsumerCases::resetByDuration);
        all.put("consumer/out-of-range", ConsumerCases::outOfRange);
        all.put("consumer/topic-made-again", ConsumerCases::topicAgain);
        all.put("consumer/metadata", ConsumerCases::metadata);
        all.put("consumer/across-restart", ConsumerCases::acrossRestart);
    }

    private static KafkaConsumer<String, String> assigned(Env env, String topic, Object... configs) {
        var c = env.consumer(configs);
        c.assign(List.of(new TopicPartition(topic, 0)));
        return c;
    }

    private static void seek(Env env) throws Exception {
        String topic = env.topic(1);
        var tp = new TopicPartition(topic, 0);
        env.produce(topic, 0, 100);
        var c = assigned(env, topic);
        c.seek(tp, 90);
        equal(Env.values(Env.read(c, 10)), Env.range(90, 100), "from 90");
        c.seekToBeginning(List.of(tp));
        var first = Env.read(c, 1).get(0);
        equal(first.offset(), 0L, "the beginning");
        c.seekToEnd(List.of(tp));
        equal(c.position(tp), 100L, "the end");
        equal(c.beginningOffsets(List.of(tp)).get(tp), 0L, "beginning offset");
        equal(c.endOffsets(List.of(tp)).get(tp), 100L, "end offset");
        c.seek(tp, new OffsetAndMetadata(50, first.leaderEpoch(), ""));
        equal(Env.read(c, 1).get(0).offset(), 50L, "with a leader epoch");
        check(c.currentLag(tp).isPresent(), "the lag is unknown");
    }

    private static void offsetsForTimes(Env env) throws Exception {
        String topic = env.topic(1);
        var tp = new TopicPartition(topic, 0);
        try (var p = env.producer()) {
            for (int i = 0; i < 10; i++) {
                p.send(new ProducerRecord<>(topic, 0, 1_700_000_000_000L + 1000 * i, "k", "" + i)).get();
            }
        }
        var c = env.consumer();
        var found = c.offsetsForTimes(Map.of(tp, 1_700_000_004_500L)).get(tp);
        equal(List.of(found.offset(), found.timestamp()), List.of(5L, 1_700_000_005_000L), "the first not before");
        equal(c.offsetsForTimes(Map.of(tp, 0L)).get(tp).offset(), 0L, "from the epoch");
        equal(c.offsetsForTimes(Map.of(tp, 1_800_000_000_000L)).get(tp), null, "of the future");
    }

    private static void pause(Env env) throws Exception {
        String topic = env.topic(2);
        var zero = new TopicPartition(topic, 0);
        var one = new TopicPartition(topic, 1);
        try (var p = env.producer()) {
            for (int i = 0; i < 20; i++) {
                p.send(new ProducerRecord<>(topic, i % 2, null, "" + i)).get();
            }
        }
        var c = env.consumer();
        c.assign(List.of(zero, one));
        c.pause(List.of(zero));
        check(Env.read(c, 10).stream().allMatch(r -> r.partition() == 1), "a paused partition gave records");
        c.resume(List.of(zero));
        check(Env.read(c, 10).stream().allMatch(r -> r.partition() == 0), "the resumed partition's records");
    }

    private static void largeRecords(Env env) throws Exception {
        String topic = env.topic(1, "max.message.bytes", "5000000");
        try (var p = env.producer("max.request.size", "6000000", "buffer.memory", "40000000")) {
            for (int i = 0; i < 5; i++) {
                p.send(new ProducerRecord<>(topic, ("" + i).repeat(4_000_000))).get();
            }
        }
        var c = assigned(env, topic, "max.partition.fetch.bytes", "1000");
        var got = Env.read(c, 5);
        for (int i = 0; i < 5; i++) {
            equal(got.get(i).value(), ("" + i).repeat(4_000_000), "record " + i);
        }
    }

    private static void smallFetches(Env env) throws Exception {
        String topic = env.topic(1);
        env.produce(topic, 0, 500, "batch.size", "1000");
        var c = assigned(env, topic, "fetch.max.bytes", "2000", "max.partition.fetch.bytes", "1000", "max.poll.records", "7");
        equal(Env.values(Env.read(c, 500)), Env.range(0, 500), "values");
    }

    /** More partitions than one fetch answers: sessions take turns. */
    private static void manyPartitions(Env env) throws Exception {
        String topic = env.topic(100);
        env.produce(topic, 0, 2000);
        var c = env.consumer("fetch.max.bytes", "20000");
        c.assign(c.partitionsFor(topic).stream().map(p -> new TopicPartition(topic, p.partition())).toList());
        equal(Env.read(c, 2000).stream().map(r -> r.value()).distinct().count(), 2000L, "different values");
        env.produce(topic, 2000, 2100);
        equal(Env.read(c, 100).stream().map(r -> r.value()).distinct().count(), 100L, "later values");
    }

    private static void resetNone(Env env) throws Exception {
        var c = assigned(env, env.topic(1), "auto.offset.reset", "none", "group.id", env.unique());
        expect(NoOffsetForPartitionException.class, () -> c.poll(Duration.ofSeconds(10)));
    }

    private static void resetByDuration(Env env) throws Exception {
        String topic = env.topic(1);
        long now = System.currentTimeMillis();
        try (var p = env.producer()) {
            p.send(new ProducerRecord<>(topic, 0, now - 7_200_000, "k", "old")).get();
            p.send(new ProducerRecord<>(topic, 0, now, "k", "new")).get();
        }
        var c = assigned(env, topic, "auto.offset.reset", "by_duration:PT1H", "group.id", env.unique());
        equal(Env.read(c, 1).get(0).value(), "new", "the first record");
    }

    private static void outOfRange(Env env) throws Exception {
        String topic = env.topic(1);
        env.produce(topic, 0, 10);
        var c = assigned(env, topic, "auto.offset.reset", "none", "group.id", env.unique());
        c.seek(new TopicPartition(topic, 0), 11);
        expect(OffsetOutOfRangeException.class, () -> c.poll(Duration.ofSeconds(10)));
    }

    private static void topicAgain(Env env) throws Exception {
        String topic = env.topic(1);
        env.produce(topic, 0, 10);
        env.admin.deleteTopics(List.of(topic)).all().get();
        Env.eventually("the name is free", () -> env.admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get() == null);
        env.produce(topic, 10, 20);
        var c = assigned(env, topic);
        equal(Env.values(Env.read(c, 10)), Env.range(10, 20), "what is in the new topic");
    }

    private static void metadata(Env env) throws Exception {
        String topic = env.topic(3);
        var c = env.consumer();
        equal(c.partitionsFor(topic).size(), 3, "partitions");
        check(c.listTopics().containsKey(topic), "the topic is not in the list");
    }

    private static void acrossRestart(Env env) throws Exception {
        String topic = env.topic(1);
        env.produce(topic, 0, 100);
        var tp = new TopicPartition(topic, 0);
        var c = env.consumer("group.id", env.unique());
        c.subscribe(List.of(topic));
        Env.read(c, 100);
        c.commitSync();
        Env.ask("restart");
        env.produce(topic, 100, 200);
        equal(Env.values(Env.read(c, 100)), Env.range(100, 200), "what came after the restart");
        equal(c.committed(Set.of(tp)).get(tp).offset(), 100L, "the commit before the restart");
    }
}
