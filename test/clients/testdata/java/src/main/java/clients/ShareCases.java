package clients;

import static clients.Env.check;
import static clients.Env.equal;
import static clients.Env.expect;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Function;

import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.ListShareGroupOffsetsSpec;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Share groups (KIP-932). */
final class ShareCases {
    static void add(Map<String, Main.Case> all) {
        all.put("share/all-is-shared", ShareCases::allIsShared);
        all.put("share/accept-release-reject", ShareCases::acceptReleaseReject);
        all.put("share/delivery-limit", ShareCases::deliveryLimit);
        all.put("share/renew", ShareCases::renew);
        all.put("share/record-limit", ShareCases::recordLimit);
        all.put("share/read-committed", ShareCases::readCommitted);
        all.put("share/survives-kill", ShareCases::survivesKill);
        all.put("admin/share-groups", ShareCases::admin);
    }

    /** A new group that begins at the log's start; configs are key, value... */
    private static String group(Env env, String... configs) throws Exception {
        String group = env.unique();
        List<AlterConfigOp> ops = new ArrayList<>();
        ops.add(new AlterConfigOp(new ConfigEntry("share.auto.offset.reset", "earliest"), AlterConfigOp.OpType.SET));
        for (int i = 0; i < configs.length; i += 2) {
            ops.add(new AlterConfigOp(new ConfigEntry(configs[i], configs[i + 1]), AlterConfigOp.OpType.SET));
        }
        env.admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.GROUP, group), ops)).all().get();
        return group;
    }

    private static KafkaShareConsumer<String, String> consumer(Env env, String group, String topic, Object... configs) {
        Map<String, Object> m = Env.map(configs);
        m.put("bootstrap.servers", env.bootstrap);
        m.put("group.id", group);
        var c = env.keep(new KafkaShareConsumer<>(m, new StringDeserializer(), new StringDeserializer()));
        c.subscribe(List.of(topic));
        return c;
    }

    private static KafkaShareConsumer<String, String> explicit(Env env, String group, String topic) {
        return consumer(env, group, topic, "share.acknowledgement.mode", "explicit");
    }

    /** Polls until there are n records, and says of each what verdict does. */
    private static List<ConsumerRecord<String, String>> read(KafkaShareConsumer<String, String> c, int n,
            Function<ConsumerRecord<String, String>, AcknowledgeType> verdict) {
        List<ConsumerRecord<String, String>> all = new ArrayList<>();
        long end = System.nanoTime() + Env.TIMEOUT.toNanos();
        while (all.size() < n) {
            check(System.nanoTime() < end, "got %d records in time, want %d", all.size(), n);
            for (var r : c.poll(Duration.ofMillis(200))) {
                c.acknowledge(r, verdict.apply(r));
                all.add(r);
            }
            commit(c);
        }
        return all;
    }

    private static void commit(KafkaShareConsumer<String, String> c) {
        c.commitSync(Duration.ofSeconds(20)).forEach((tp, e) -> check(e.isEmpty(), "acknowledge in %s: %s", tp, e));
    }

    private static Set<String> values(Collection<ConsumerRecord<String, String>> records) {
        Set<String> all = new TreeSet<>();
        records.forEach(r -> all.add(r.value()));
        return all;
    }

    private static void allIsShared(Env env) throws Exception {
        String topic = env.topic(2);
        String group = group(env);
        Set<String> got = new TreeSet<>();
        try (var a = consumer(env, group, topic, "max.poll.records", "20"); var b = consumer(env, group, topic, "max.poll.records", "20")) {
            env.produce(topic, 0, 500);
            int[] each = new int[2];
            Env.eventually("both have all records between them", () -> {
                for (var c : List.of(a, b)) {
                    for (var r : c.poll(Duration.ofMillis(100))) {
                        check(got.add(r.value()), "%s came twice", r.value());
                        each[c == a ? 0 : 1]++;
                    }
                }
                return got.size() == 500;
            });
            commit(a); // of themselves they do at the next poll, which there is none of
            commit(b);
            check(each[0] > 0 && each[1] > 0, "one has %d, the other %d", each[0], each[1]);
        }
        try (var c = consumer(env, group, topic)) {
            env.produce(topic, 500, 501);
            equal(values(readImplicit(c, 1)), Set.of("500"), "what is left");
        }
    }

    private static List<ConsumerRecord<String, String>> readImplicit(KafkaShareConsumer<String, String> c, int n) {
        List<ConsumerRecord<String, String>> all = new ArrayList<>();
        long end = System.nanoTime() + Env.TIMEOUT.toNanos();
        while (all.size() < n) {
            check(System.nanoTime() < end, "got %d records in time, want %d", all.size(), n);
            c.poll(Duration.ofMillis(200)).forEach(all::add);
        }
        return all;
    }

    private static void acceptReleaseReject(Env env) throws Exception {
        String topic = env.topic(1);
        env.produce(topic, 0, 30);
        var c = explicit(env, group(env), topic);
        var verdicts = List.of(AcknowledgeType.ACCEPT, AcknowledgeType.RELEASE, AcknowledgeType.REJECT);
        var got = read(c, 40, r -> r.deliveryCount().orElse((short) 0) > 1 ? AcknowledgeType.ACCEPT : verdicts.get(Integer.parseInt(r.value()) % 3));
        equal(got.size(), 40, "deliveries");
        for (var r : got) {
            boolean again = r.deliveryCount().orElseThrow() == 2;
            check(!again || Integer.parseInt(r.value()) % 3 == 1, "%s came again", r.value());
        }
        equal(values(got), new TreeSet<>(Env.range(0, 30)), "records");
        env.produce(topic, 30, 31);
        equal(values(read(c, 1, r -> AcknowledgeType.ACCEPT)), Set.of("30"), "what is left");
    }

    private static void deliveryLimit(Env env) throws Exception {
        String topic = env.topic(1);
        env.produce(topic, 0, 1);
        var c = explicit(env, group(env), topic);
        var got = read(c, 5, r -> AcknowledgeType.RELEASE);
        equal(got.stream().map(r -> (int) r.deliveryCount().orElseThrow()).toList(), List.of(1, 2, 3, 4, 5), "deliveries");
        env.produce(topic, 1, 2);
        equal(values(read(c, 1, r -> AcknowledgeType.ACCEPT)), Set.of("1"), "what is left");
    }

    private static void renew(Env env) throws Exception {
        String topic = env.topic(1);
        env.produce(topic, 0, 2);
        var c = explicit(env, group(env), topic);
        List<ConsumerRecord<String, String>> got = new ArrayList<>();
        Env.eventually("there are records", () -> {
            c.poll(Duration.ofMillis(200)).forEach(got::add);
            return got.size() == 2;
        });
        check(c.acquisitionLockTimeoutMs().isPresent(), "the lock's time is not known");
        c.acknowledge(got.get(0), AcknowledgeType.ACCEPT);
        c.acknowledge(got.get(1), AcknowledgeType.RENEW);
        commit(c);
        List<ConsumerRecord<String, String>> again = new ArrayList<>();
        c.poll(Duration.ofMillis(200)).forEach(again::add);
        equal(values(again), Set.of("1"), "what was renewed");
        c.acknowledge(again.get(0), AcknowledgeType.ACCEPT);
        commit(c);
        env.produce(topic, 2, 3);
        equal(values(read(c, 1, r -> AcknowledgeType.ACCEPT)), Set.of("2"), "what is left");
    }

    private static void recordLimit(Env env) throws Exception {
        String topic = env.topic(1);
        env.produce(topic, 0, 100, "linger.ms", "200");
        try (var c = consumer(env, group(env), topic, "share.acquire.mode", "record_limit", "max.poll.records", "7")) {
            Set<String> got = new TreeSet<>();
            Env.eventually("all records come", () -> {
                var records = c.poll(Duration.ofMillis(200));
                check(records.count() <= 7, "%d records at once", records.count());
                records.forEach(r -> check(got.add(r.value()), "%s came twice", r.value()));
                return got.size() == 100;
            });
        }
    }

    private static void readCommitted(Env env) throws Exception {
        String topic = env.topic(1);
        var p = env.producer("transactional.id", env.unique());
        p.initTransactions();
        for (int i = 0; i < 20; i++) {
            p.beginTransaction();
            p.send(new org.apache.kafka.clients.producer.ProducerRecord<>(topic, "" + i, "" + i)).get();
            if (i % 2 == 0) {
                p.commitTransaction();
            } else {
                p.abortTransaction();
            }
        }
        var c = explicit(env, group(env, "share.isolation.level", "read_committed"), topic);
        var got = read(c, 10, r -> AcknowledgeType.ACCEPT);
        check(got.stream().allMatch(r -> Integer.parseInt(r.value()) % 2 == 0), "aborted records: %s", values(got));
        var all = explicit(env, group(env), topic);
        equal(values(read(all, 20, r -> AcknowledgeType.ACCEPT)), new TreeSet<>(Env.range(0, 20)), "read uncommitted");
    }

    private static void survivesKill(Env env) throws Exception {
        String topic = env.topic(1);
        String group = group(env);
        env.produce(topic, 0, 20);
        var c = explicit(env, group, topic);
        read(c, 20, r -> Integer.parseInt(r.value()) < 15 ? AcknowledgeType.ACCEPT : AcknowledgeType.RELEASE);
        Env.ask("kill");
        Set<String> again = new TreeSet<>();
        Env.eventually("what was released comes again, to the same consumer", () -> {
            for (var r : c.poll(Duration.ofMillis(200))) {
                check(Integer.parseInt(r.value()) >= 15, "%s came again", r.value());
                c.acknowledge(r, AcknowledgeType.ACCEPT);
                again.add(r.value());
            }
            c.commitSync(Duration.ofSeconds(5)); // may say that the broker was away
            return again.size() == 5;
        });
    }

    private static void admin(Env env) throws Exception {
        String topic = env.topic(2);
        String group = group(env);
        var tp = new TopicPartition(topic, 0);
        env.produce(topic, 0, 100);
        try (var c = consumer(env, group, topic, "client.id", "me")) {
            readImplicit(c, 1);
            commit(c);
            GroupListing listed = env.admin.listGroups(ListGroupsOptions.forShareGroups()).all().get().stream()
                    .filter(g -> g.groupId().equals(group)).findFirst().orElseThrow();
            equal(List.of(listed.type().orElseThrow(), listed.groupState().orElseThrow()), List.of(GroupType.SHARE, GroupState.STABLE), "listed");
            var got = env.admin.describeShareGroups(List.of(group)).all().get().get(group);
            equal(List.of(got.groupState(), got.members().size(), got.coordinator().id()), List.of(GroupState.STABLE, 1, 1), "description");
            var member = got.members().iterator().next();
            equal(List.of(member.clientId(), member.assignment().topicPartitions().size()), List.of("me", 2), "member");
            expect(GroupNotEmptyException.class, () -> env.admin.deleteShareGroups(List.of(group)).all().get());
        }
        Env.eventually("the group is empty", () -> env.admin.describeShareGroups(List.of(group)).all().get().get(group)
                .groupState() == GroupState.EMPTY);
        env.admin.alterShareGroupOffsets(group, Map.of(tp, 5L)).all().get();
        Env.ask("kill");
        var offsets = env.admin.listShareGroupOffsets(Map.of(group, new ListShareGroupOffsetsSpec())).partitionsToOffsetInfo(group).get();
        equal(offsets.get(tp).startOffset(), 5L, "start offset");
        env.admin.deleteShareGroupOffsets(group, Set.of(topic)).all().get();
        equal(env.admin.listShareGroupOffsets(Map.of(group, new ListShareGroupOffsetsSpec())).partitionsToOffsetInfo(group).get(),
                Map.of(), "offsets after they were deleted");
        env.admin.alterShareGroupOffsets(group, Map.of(tp, 5L)).all().get();
        env.admin.deleteShareGroups(List.of(group)).all().get();
        expect(GroupIdNotFoundException.class, () -> env.admin.describeShareGroups(List.of(group)).all().get());
    }
}
