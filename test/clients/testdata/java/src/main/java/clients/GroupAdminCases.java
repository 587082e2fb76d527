package clients;

import static clients.Env.check;
import static clients.Env.equal;
import static clients.Env.expect;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Set;

import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;

/** The Admin client on consumer groups. */
final class GroupAdminCases {
    static void add(Map<String, Main.Case> all) {
        for (String protocol : List.of("classic", "consumer")) {
            all.put("admin/groups-" + protocol, env -> groups(env, protocol));
        }
        all.put("admin/group-offsets", GroupAdminCases::offsets);
        all.put("admin/remove-members", GroupAdminCases::removeMembers);
    }

    private static KafkaConsumer<String, String> join(Env env, String topic, Object... configs) throws Exception {
        var c = env.consumer(configs);
        c.subscribe(List.of(topic));
        Env.eventually("the member has a partition", () -> {
            c.poll(Duration.ofMillis(100));
            return !c.assignment().isEmpty();
        });
        return c;
    }

    private static void groups(Env env, String protocol) throws Exception {
        String topic = env.topic(2);
        String group = env.unique();
        env.produce(topic, 0, 10);
        try (var c = join(env, topic, "group.id", group, "group.protocol", protocol, "client.id", "me")) {
            c.commitSync(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(1)));
            GroupListing listed = env.admin.listGroups(ListGroupsOptions.forConsumerGroups()).all().get().stream()
                    .filter(g -> g.groupId().equals(group)).findFirst().orElseThrow();
            equal(listed.type().orElse(null), GroupType.parse(protocol), "listed type");
            equal(listed.groupState().orElse(null), GroupState.STABLE, "listed state");
            var got = env.admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            equal(List.of(got.groupState(), got.type(), got.members().size(), got.coordinator().id()),
                    List.of(GroupState.STABLE, GroupType.parse(protocol), 1, 1), "description");
            var member = got.members().iterator().next();
            equal(member.clientId(), "me", "client id");
            equal(member.assignment().topicPartitions().size(), 2, "assigned partitions");
            expect(GroupNotEmptyException.class, () -> env.admin.deleteConsumerGroups(List.of(group)).all().get());
        }
        Env.eventually("the group is empty", () -> env.admin.describeConsumerGroups(List.of(group)).all().get().get(group)
                .groupState() == GroupState.EMPTY);
        env.admin.deleteConsumerGroups(List.of(group)).all().get();
        expect(GroupIdNotFoundException.class, () -> env.admin.deleteConsumerGroups(List.of(group)).all().get());
        expect(GroupIdNotFoundException.class, () -> env.admin.describeConsumerGroups(List.of(group)).all().get());
    }

    private static void offsets(Env env) throws Exception {
        String topic = env.topic(2);
        String group = env.unique();
        var zero = new TopicPartition(topic, 0);
        var one = new TopicPartition(topic, 1);
        env.admin.alterConsumerGroupOffsets(group, Map.of(zero, new OffsetAndMetadata(3), one, new OffsetAndMetadata(4, "note"))).all().get();
        var got = env.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        equal(List.of(got.get(zero).offset(), got.get(one).offset(), got.get(one).metadata()), List.of(3L, 4L, "note"), "offsets");
        env.admin.deleteConsumerGroupOffsets(group, Set.of(zero)).all().get();
        got = env.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        check(got.get(zero) == null && got.get(one).offset() == 4, "offsets after one was deleted: %s", got);
        Env.ask("kill");
        got = env.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        check(got.get(zero) == null && got.get(one).offset() == 4, "offsets after a kill: %s", got);
    }

    private static void removeMembers(Env env) throws Exception {
        String topic = env.topic(2);
        String group = env.unique();
        var c = join(env, topic, "group.id", group, "group.protocol", "classic", "group.instance.id", "i");
        c.commitSync(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(0))); // keeps the group when it is empty
        env.admin.removeMembersFromConsumerGroup(group,
                new RemoveMembersFromConsumerGroupOptions(Set.of(new MemberToRemove("i")))).all().get();
        Env.eventually("the group is empty", () -> env.admin.describeConsumerGroups(List.of(group)).all().get().get(group)
                .members().isEmpty());
    }
}
