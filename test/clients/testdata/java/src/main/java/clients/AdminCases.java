package clients;

import static clients.Env.check;
import static clients.Env.equal;
import static clients.Env.expect;

import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialDeletion;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.SecurityDisabledException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;

/** The Admin client on topics, configurations, records and the broker. */
final class AdminCases {
    static void add(Map<String, Main.Case> all) {
        all.put("admin/create-and-delete-topics", AdminCases::topics);
        all.put("admin/describe-topics", AdminCases::describeTopics);
        all.put("admin/create-partitions", AdminCases::createPartitions);
        all.put("admin/topic-configs", AdminCases::topicConfigs);
        all.put("admin/broker-configs", AdminCases::brokerConfigs);
        all.put("admin/delete-records", AdminCases::deleteRecords);
        all.put("admin/list-offsets", AdminCases::listOffsets);
        all.put("admin/log-dirs", AdminCases::logDirs);
        all.put("admin/quotas", AdminCases::quotas);
        all.put("admin/cluster-and-features", AdminCases::cluster);
        all.put("admin/elect-and-reassign", AdminCases::electAndReassign);
        all.put("admin/scram-credentials", AdminCases::scram);
        all.put("admin/acls-when-off", AdminCases::aclsWhenOff);
        all.put("admin/config-resources", AdminCases::configResources);
    }

    private static void topics(Env env) throws Exception {
        String name = env.unique();
        var topic = new NewTopic(name, Optional.of(3), Optional.empty()).configs(Map.of("retention.ms", "3600000"));
        env.admin.createTopics(List.of(topic), new CreateTopicsOptions().validateOnly(true)).all().get();
        check(!env.admin.listTopics().names().get().contains(name), "validateOnly made the topic");
        var made = env.admin.createTopics(List.of(topic));
        equal(made.numPartitions(name).get(), 3, "partitions");
        equal(made.replicationFactor(name).get(), 1, "replication factor");
        equal(made.config(name).get().get("retention.ms").value(), "3600000", "retention.ms");
        var id = made.topicId(name).get();
        expect(TopicExistsException.class, () -> env.admin.createTopics(List.of(topic)).all().get());
        expect(InvalidReplicationFactorException.class,
                () -> env.admin.createTopics(List.of(new NewTopic(env.unique(), 1, (short) 4))).all().get());
        expect(InvalidPartitionsException.class,
                () -> env.admin.createTopics(List.of(new NewTopic(env.unique(), 0, (short) 1))).all().get());
        expect(InvalidConfigurationException.class, () -> env.admin.createTopics(
                List.of(new NewTopic(env.unique(), 1, (short) 1).configs(Map.of("no.such.config", "1")))).all().get());
        equal(env.admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds().get().get(id).name(), name, "name by id");
        env.admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get();
        Env.eventually("the deleted topic is not listed", () -> !env.admin.listTopics().names().get().contains(name));
        expect(UnknownTopicIdException.class, () -> env.admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get());
        expect(UnknownTopicOrPartitionException.class, () -> env.admin.deleteTopics(List.of(name)).all().get());
    }

    private static void describeTopics(Env env) throws Exception {
        String name = env.topic(120);
        var got = env.admin.describeTopics(List.of(name)).allTopicNames().get().get(name);
        equal(got.partitions().size(), 120, "partitions");
        var p = got.partitions().get(7);
        equal(List.of(p.leader().id(), p.replicas().size(), p.isr().size()), List.of(1, 1, 1), "leader and replicas");
        check(!got.isInternal(), "an ordinary topic is internal");
        expect(UnknownTopicOrPartitionException.class, () -> env.admin.describeTopics(List.of("none")).allTopicNames().get());
    }

    private static void createPartitions(Env env) throws Exception {
        String name = env.topic(2);
        env.admin.createPartitions(Map.of(name, NewPartitions.increaseTo(4))).all().get();
        Env.eventually("there are four", () -> env.admin.describeTopics(List.of(name)).allTopicNames().get().get(name).partitions().size() == 4);
        expect(InvalidPartitionsException.class,
                () -> env.admin.createPartitions(Map.of(name, NewPartitions.increaseTo(3))).all().get());
        env.produce(name, 0, 100);
    }

    private static Config config(Env env, ConfigResource r) throws Exception {
        return env.admin.describeConfigs(List.of(r)).all().get().get(r);
    }

    private static void alter(Env env, ConfigResource r, String key, String value, AlterConfigOp.OpType op) throws Exception {
        env.admin.incrementalAlterConfigs(Map.of(r, List.of(new AlterConfigOp(new ConfigEntry(key, value), op)))).all().get();
    }

    private static void topicConfigs(Env env) throws Exception {
        String name = env.topic(1);
        var r = new ConfigResource(ConfigResource.Type.TOPIC, name);
        equal(config(env, r).get("cleanup.policy").value(), "delete", "cleanup.policy by default");
        check(config(env, r).get("cleanup.policy").isDefault(), "it is not called a default");
        alter(env, r, "retention.ms", "12345678", AlterConfigOp.OpType.SET);
        alter(env, r, "cleanup.policy", "compact", AlterConfigOp.OpType.APPEND);
        equal(config(env, r).get("retention.ms").value(), "12345678", "retention.ms");
        equal(config(env, r).get("retention.ms").source(), ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "its source");
        equal(config(env, r).get("cleanup.policy").value(), "delete,compact", "cleanup.policy");
        alter(env, r, "cleanup.policy", "delete", AlterConfigOp.OpType.SUBTRACT);
        equal(config(env, r).get("cleanup.policy").value(), "compact", "cleanup.policy");
        alter(env, r, "retention.ms", "", AlterConfigOp.OpType.DELETE);
        check(config(env, r).get("retention.ms").isDefault(), "the deleted entry is not at its default");
        expect(InvalidConfigurationException.class, () -> {
            alter(env, r, "retention.ms", "soon", AlterConfigOp.OpType.SET);
            return "a change";
        });
        Env.ask("kill");
        equal(config(env, r).get("cleanup.policy").value(), "compact", "cleanup.policy after a kill");
    }

    private static void brokerConfigs(Env env) throws Exception {
        var broker = new ConfigResource(ConfigResource.Type.BROKER, "1");
        equal(config(env, broker).get("node.id").value(), "1", "node.id");
        check(config(env, broker).get("log.retention.ms") != null, "no log.retention.ms");
    }

    private static void deleteRecords(Env env) throws Exception {
        String name = env.topic(1);
        var tp = new TopicPartition(name, 0);
        env.produce(name, 0, 100);
        equal(env.admin.deleteRecords(Map.of(tp, RecordsToDelete.beforeOffset(60))).lowWatermarks().get(tp).get().lowWatermark(),
                60L, "low watermark");
        expect(OffsetOutOfRangeException.class, () -> env.admin.deleteRecords(Map.of(tp, RecordsToDelete.beforeOffset(500))).all().get());
        var c = env.consumer();
        c.assign(List.of(tp));
        equal(Env.values(Env.read(c, 40)), Env.range(60, 100), "what is left");
        equal(env.admin.deleteRecords(Map.of(tp, RecordsToDelete.beforeOffset(-1))).lowWatermarks().get(tp).get().lowWatermark(),
                100L, "low watermark when all is deleted");
        Env.ask("kill");
        equal(offset(env, tp, OffsetSpec.earliest()), 100L, "earliest after a kill");
    }

    private static long offset(Env env, TopicPartition tp, OffsetSpec spec) throws Exception {
        return env.admin.listOffsets(Map.of(tp, spec)).partitionResult(tp).get().offset();
    }

    private static void listOffsets(Env env) throws Exception {
        String name = env.topic(1);
        var tp = new TopicPartition(name, 0);
        equal(offset(env, tp, OffsetSpec.maxTimestamp()), -1L, "max timestamp of nothing");
        try (var p = env.producer()) {
            for (long ts : new long[] {5000, 9000, 7000}) {
                p.send(new ProducerRecord<>(name, 0, ts, "k", "v")).get();
            }
        }
        equal(offset(env, tp, OffsetSpec.earliest()), 0L, "earliest");
        equal(offset(env, tp, OffsetSpec.latest()), 3L, "latest");
        equal(offset(env, tp, OffsetSpec.maxTimestamp()), 1L, "max timestamp");
        equal(offset(env, tp, OffsetSpec.forTimestamp(6000)), 1L, "for a timestamp");
        equal(offset(env, tp, OffsetSpec.earliestLocal()), 0L, "earliest local");
    }

    private static void logDirs(Env env) throws Exception {
        String name = env.topic(2);
        env.produce(name, 0, 100);
        var dir = env.admin.describeLogDirs(List.of(1)).allDescriptions().get().get(1).values().iterator().next();
        check(dir.error() == null, "error %s", dir.error());
        check(dir.replicaInfos().get(new TopicPartition(name, 0)).size() > 0, "a partition with records has no size");
        check(dir.totalBytes().orElse(0) > 0 && dir.usableBytes().orElse(0) > 0, "the disk's sizes are missing");
    }

    private static void quotas(Env env) throws Exception {
        var who = new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, env.unique()));
        var op = new ClientQuotaAlteration.Op("producer_byte_rate", 1_000_000.0);
        env.admin.alterClientQuotas(List.of(new ClientQuotaAlteration(who, List.of(op)))).all().get();
        equal(env.admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get().get(who),
                Map.of("producer_byte_rate", 1_000_000.0), "quota");
        var none = new ClientQuotaAlteration.Op("producer_byte_rate", null);
        env.admin.alterClientQuotas(List.of(new ClientQuotaAlteration(who, List.of(none)))).all().get();
        equal(env.admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get().get(who), null, "quota taken back");
    }

    private static void cluster(Env env) throws Exception {
        var got = env.admin.describeCluster();
        equal(got.nodes().get().size(), 1, "nodes");
        equal(got.controller().get().id(), 1, "controller");
        check(!got.clusterId().get().isEmpty(), "no cluster id");
        var features = env.admin.describeFeatures().featureMetadata().get().finalizedFeatures();
        check(features.get("transaction.version").maxVersionLevel() == 2, "transaction.version: %s", features);
        check(features.get("group.version").maxVersionLevel() == 1, "group.version: %s", features);
    }

    private static void electAndReassign(Env env) throws Exception {
        var tp = new TopicPartition(env.topic(1), 0);
        expect(ElectionNotNeededException.class, () -> {
            var e = env.admin.electLeaders(ElectionType.PREFERRED, Set.of(tp)).partitions().get().get(tp);
            throw (Exception) e.get();
        });
        equal(env.admin.listPartitionReassignments().reassignments().get(), Map.of(), "reassignments");
    }

    private static void scram(Env env) throws Exception {
        String user = env.unique();
        var info = new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096);
        env.admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(user, info, "secret"))).all().get();
        equal(env.admin.describeUserScramCredentials(List.of(user)).description(user).get().credentialInfos(), List.of(info), "credentials");
        env.admin.alterUserScramCredentials(List.of(new UserScramCredentialDeletion(user, ScramMechanism.SCRAM_SHA_256))).all().get();
        Env.eventually("the user is gone", () -> !env.admin.describeUserScramCredentials().users().get().contains(user));
    }

    private static void aclsWhenOff(Env env) {
        expect(SecurityDisabledException.class, () -> env.admin.describeAcls(AclBindingFilter.ANY).values().get());
    }

    private static void configResources(Env env) throws Exception {
        String name = env.topic(1);
        var all = env.admin.listConfigResources(Set.of(), new org.apache.kafka.clients.admin.ListConfigResourcesOptions()).all().get();
        check(all.contains(new ConfigResource(ConfigResource.Type.TOPIC, name)), "the topic is not among %s", all);
    }
}
