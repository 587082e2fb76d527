package clients;

import static clients.Env.check;
import static clients.Env.equal;
import static clients.Env.expect;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.regex.Pattern;

import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;

/** Consumer groups by both protocols and every assignor. */
final class GroupCases {
    /** A way to be in a group: a name, and the consumer's settings for it. */
    record Way(String name, boolean kip848, List<Object> configs) {
        Object[] with(Object... more) {
            List<Object> all = new ArrayList<>(configs);
            all.addAll(List.of(more));
            return all.toArray();
        }
    }

    private static Way classic(String assignor) {
        return new Way("classic-" + assignor.replace("Assignor", "").toLowerCase(), false, List.of(
                "group.protocol", "classic", "heartbeat.interval.ms", "200", "session.timeout.ms", "6000",
                "partition.assignment.strategy", "org.apache.kafka.clients.consumer." + assignor));
    }

    private static final List<Way> WAYS = List.of(
            classic("RangeAssignor"), classic("RoundRobinAssignor"), classic("StickyAssignor"), classic("CooperativeStickyAssignor"),
            new Way("consumer-uniform", true, List.of("group.protocol", "consumer", "group.remote.assignor", "uniform")),
            new Way("consumer-range", true, List.of("group.protocol", "consumer", "group.remote.assignor", "range")));
    private static final List<Way> PROTOCOLS = List.of(WAYS.get(0), WAYS.get(4));

    static void add(Map<String, Main.Case> all) {
        for (Way way : WAYS) {
            all.put("group/rebalance-" + way.name, env -> rebalance(env, way));
        }
        for (Way way : PROTOCOLS) {
            String protocol = way.kip848 ? "consumer" : "classic";
            all.put("group/commit-and-resume-" + protocol, env -> commit(env, way));
            all.put("group/static-member-" + protocol, env -> staticMember(env, way));
            all.put("group/static-member-fenced-" + protocol, env -> staticFenced(env, way));
            all.put("group/pattern-" + protocol, env -> pattern(env, way));
            all.put("group/new-partitions-" + protocol, env -> newPartitions(env, way));
            all.put("group/auto-commit-" + protocol, env -> autoCommit(env, way));
        }
        all.put("group/pattern-re2", GroupCases::patternRE2);
        all.put("group/dead-member-leaves", GroupCases::deadMember);
        all.put("group/upgrade-classic-to-consumer", GroupCases::upgrade);
        for (Way way : List.of(WAYS.get(0), WAYS.get(3))) {
            all.put("group/live-migration-" + way.name, env -> migrate(env, way));
        }
    }

    /** A consumer that polls on a thread of its own until it is stopped. */
    static final class Member implements AutoCloseable {
        final KafkaConsumer<String, String> consumer;
        final Set<String> seen;
        final AtomicBoolean stop = new AtomicBoolean();
        volatile Set<TopicPartition> assigned = Set.of();
        private final ExecutorService thread = Executors.newSingleThreadExecutor();
        private final Future<?> done;

        Member(Env env, Set<String> seen, String topic, Object... configs) {
            this.seen = seen;
            this.consumer = env.consumer(configs);
            env.keep(this);
            consumer.subscribe(List.of(topic));
            Callable<Void> work = this::work;
            done = thread.submit(work);
        }

        private Void work() {
            while (!stop.get()) {
                for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(100))) {
                    seen.add(r.value());
                }
                assigned = Set.copyOf(consumer.assignment());
                try {
                    consumer.commitSync();
                } catch (org.apache.kafka.clients.consumer.CommitFailedException
                        | org.apache.kafka.common.errors.RebalanceInProgressException e) {
                    continue; // a rebalance took the partitions: the next poll says so
                }
            }
            consumer.close();
            return null;
        }

        /** Leaves the group. */
        void leave() throws Exception {
            stop.set(true);
            done.get();
        }

        @Override
        public void close() throws Exception {
            stop.set(true);
            thread.shutdownNow();
        }
    }

    private static int partitions(Member... members) {
        Set<TopicPartition> all = new java.util.HashSet<>();
        int n = 0;
        for (Member m : members) {
            all.addAll(m.assigned);
            n += m.assigned.size();
        }
        return n == all.size() ? n : -1; // -1: two have the same
    }

    private static void rebalance(Env env, Way way) throws Exception {
        String topic = env.topic(6);
        Set<String> seen = new ConcurrentSkipListSet<>();
        Object[] configs = way.with("group.id", env.unique());
        var one = new Member(env, seen, topic, configs);
        Env.eventually("the first member has all", () -> partitions(one) == 6);
        env.produce(topic, 0, 100);
        Env.eventually("the first member reads all", () -> seen.size() == 100);
        var two = new Member(env, seen, topic, configs);
        var three = new Member(env, seen, topic, configs);
        Env.eventually("each has two", () -> partitions(one, two, three) == 6
                && one.assigned.size() == 2 && two.assigned.size() == 2 && three.assigned.size() == 2);
        env.produce(topic, 100, 200);
        Env.eventually("they read all", () -> seen.size() == 200);
        two.leave();
        Env.eventually("two members share", () -> partitions(one, three) == 6 && one.assigned.size() == 3);
        env.produce(topic, 200, 300);
        Env.eventually("they read the rest", () -> seen.size() == 300);
        one.leave();
        three.leave();
    }

    private static void commit(Env env, Way way) throws Exception {
        String topic = env.topic(1);
        String group = env.unique();
        var tp = new TopicPartition(topic, 0);
        env.produce(topic, 0, 20);
        try (var c = env.consumer(way.with("group.id", group))) {
            c.subscribe(List.of(topic));
            var epoch = Env.read(c, 20).get(12).leaderEpoch();
            c.commitSync(Map.of(tp, new OffsetAndMetadata(12, epoch, "a note")));
            var got = c.committed(Set.of(tp)).get(tp);
            equal(List.of(got.offset(), got.metadata()), List.of(12L, "a note"), "committed");
        }
        Env.ask("kill");
        try (var c = env.consumer(way.with("group.id", group))) {
            c.subscribe(List.of(topic));
            equal(Env.values(Env.read(c, 8)), Env.range(12, 20), "from the commit");
        }
    }

    /** A static member that comes back gets the same partitions, and nobody else notices. */
    private static void staticMember(Env env, Way way) throws Exception {
        String topic = env.topic(4);
        Set<String> seen = new ConcurrentSkipListSet<>();
        String group = env.unique();
        var a = new Member(env, seen, topic, way.with("group.id", group, "group.instance.id", "a"));
        var b = new Member(env, seen, topic, way.with("group.id", group, "group.instance.id", "b"));
        Env.eventually("each has two", () -> partitions(a, b) == 4 && a.assigned.size() == 2);
        Set<TopicPartition> had = b.assigned;
        Set<TopicPartition> others = a.assigned;
        b.leave();
        var again = new Member(env, seen, topic, way.with("group.id", group, "group.instance.id", "b"));
        Env.eventually("it has its partitions again", () -> again.assigned.equals(had));
        equal(a.assigned, others, "the other member's partitions");
        a.leave();
        again.leave();
    }

    private static void staticFenced(Env env, Way way) throws Exception {
        String topic = env.topic(2);
        String group = env.unique();
        Object[] configs = way.with("group.id", group, "group.instance.id", "a");
        var first = env.consumer(configs);
        first.subscribe(List.of(topic));
        Env.eventually("the first has its partitions", () -> {
            first.poll(Duration.ofMillis(100));
            return first.assignment().size() == 2;
        });
        var second = env.consumer(configs);
        second.subscribe(List.of(topic));
        // The classic protocol fences who was there first, the new one who comes second.
        expect(KafkaException.class, () -> {
            long end = System.nanoTime() + Env.TIMEOUT.toNanos();
            while (System.nanoTime() < end) {
                second.poll(Duration.ofMillis(100));
                first.poll(Duration.ofMillis(100));
            }
            return "two members of one instance id";
        });
    }

    private static void pattern(Env env, Way way) throws Exception {
        String prefix = env.unique();
        var c = env.consumer(way.with("group.id", env.unique(), "metadata.max.age.ms", "300"));
        c.subscribe(Pattern.compile(prefix + "-.*"));
        matches(env, c, prefix);
    }

    /** The broker evaluates the pattern, by RE2's rules. */
    private static void patternRE2(Env env) throws Exception {
        String prefix = env.unique();
        var c = env.consumer(WAYS.get(4).with("group.id", env.unique(), "metadata.max.age.ms", "300"));
        c.subscribe(new SubscriptionPattern(prefix + "-[a-z]+"));
        matches(env, c, prefix);
        var bad = env.consumer(WAYS.get(4).with("group.id", env.unique()));
        bad.subscribe(new SubscriptionPattern("(unclosed"));
        expect(org.apache.kafka.common.errors.InvalidRegularExpression.class, () -> {
            Env.eventually("the pattern is refused", () -> {
                bad.poll(Duration.ofMillis(100));
                return false;
            });
            return "a subscription";
        });
    }

    private static void matches(Env env, KafkaConsumer<String, String> c, String prefix) throws Exception {
        Set<String> got = new TreeSet<>();
        for (String name : List.of("a", "b")) { // the second appears while the group is there
            env.admin.createTopics(List.of(new org.apache.kafka.clients.admin.NewTopic(prefix + "-" + name, 1, (short) 1))).all().get();
            env.produce(prefix + "-" + name, 0, 1);
            Env.eventually(name + "'s record is read", () -> {
                c.poll(Duration.ofMillis(100)).forEach(r -> got.add(r.topic()));
                return got.contains(prefix + "-" + name);
            });
        }
    }

    private static void newPartitions(Env env, Way way) throws Exception {
        String topic = env.topic(2);
        Set<String> seen = new ConcurrentSkipListSet<>();
        var m = new Member(env, seen, topic, way.with("group.id", env.unique(), "metadata.max.age.ms", "300"));
        Env.eventually("it has both", () -> partitions(m) == 2);
        env.admin.createPartitions(Map.of(topic, org.apache.kafka.clients.admin.NewPartitions.increaseTo(5))).all().get();
        Env.eventually("it has all five", () -> partitions(m) == 5);
        m.leave();
    }

    private static void autoCommit(Env env, Way way) throws Exception {
        String topic = env.topic(1);
        String group = env.unique();
        env.produce(topic, 0, 10);
        try (var c = env.consumer(way.with("group.id", group, "enable.auto.commit", "true", "auto.commit.interval.ms", "100"))) {
            c.subscribe(List.of(topic));
            Env.read(c, 10);
            Env.eventually("the offset is committed", () -> {
                c.poll(Duration.ofMillis(50));
                var at = env.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(new TopicPartition(topic, 0));
                return at != null && at.offset() == 10;
            });
        }
    }

    /** A member that stops calling poll is out after max.poll.interval. */
    private static void deadMember(Env env) throws Exception {
        String topic = env.topic(2);
        Set<String> seen = new ConcurrentSkipListSet<>();
        String group = env.unique();
        var stuck = env.consumer(WAYS.get(0).with("group.id", group, "max.poll.interval.ms", "2000"));
        stuck.subscribe(List.of(topic));
        Env.eventually("the first has both", () -> {
            stuck.poll(Duration.ofMillis(100));
            return stuck.assignment().size() == 2;
        });
        var live = new Member(env, seen, topic, WAYS.get(0).with("group.id", group));
        Env.eventually("the live one has both", () -> partitions(live) == 2);
        live.leave();
    }

    /** KIP-848's migration: the last classic member is replaced by a new one, offsets stay. */
    private static void upgrade(Env env) throws Exception {
        String topic = env.topic(2);
        String group = env.unique();
        Set<String> seen = new ConcurrentSkipListSet<>();
        var old = new Member(env, seen, topic, WAYS.get(3).with("group.id", group));
        env.produce(topic, 0, 50);
        Env.eventually("the classic member reads", () -> seen.size() == 50);
        old.leave();
        var young = new Member(env, seen, topic, WAYS.get(4).with("group.id", group));
        env.produce(topic, 50, 100);
        Env.eventually("the new member goes on", () -> seen.size() == 100);
        check(env.admin.describeConsumerGroups(List.of(group)).describedGroups().get(group).get().type()
                == org.apache.kafka.common.GroupType.CONSUMER, "the group is not of the new kind");
        young.leave();
    }

    /** KIP-848's live migration: over to the new protocol member by member, and back. */
    private static void migrate(Env env, Way old) throws Exception {
        String topic = env.topic(4);
        String group = env.unique();
        Set<String> seen = new ConcurrentSkipListSet<>();
        Object[] classic = old.with("group.id", group);
        var one = new Member(env, seen, topic, classic);
        Env.eventually("the classic member has all", () -> partitions(one) == 4);
        env.produce(topic, 0, 50);
        Env.eventually("it reads them", () -> seen.size() == 50);
        var two = new Member(env, seen, topic, WAYS.get(4).with("group.id", group));
        Env.eventually("both kinds share", () -> partitions(one, two) == 4 && two.assigned.size() == 2);
        check(type(env, group) == org.apache.kafka.common.GroupType.CONSUMER, "the group is not of the new kind");
        env.produce(topic, 50, 100);
        Env.eventually("they read on", () -> seen.size() == 100);
        one.leave();
        Env.eventually("the new member has all", () -> partitions(two) == 4);
        env.produce(topic, 100, 150);
        Env.eventually("it reads on", () -> seen.size() == 150);
        var three = new Member(env, seen, topic, classic);
        Env.eventually("both kinds share again", () -> partitions(two, three) == 4 && three.assigned.size() == 2);
        two.leave();
        Env.eventually("the classic member has all again", () -> partitions(three) == 4);
        check(type(env, group) == org.apache.kafka.common.GroupType.CLASSIC, "the group is not of the old kind");
        env.produce(topic, 150, 200);
        Env.eventually("it reads the rest", () -> seen.size() == 200);
        three.leave();
    }

    private static org.apache.kafka.common.GroupType type(Env env, String group) throws Exception {
        return env.admin.listGroups().all().get().stream().filter(g -> g.groupId().equals(group)).findFirst().orElseThrow().type().orElseThrow();
    }
}
