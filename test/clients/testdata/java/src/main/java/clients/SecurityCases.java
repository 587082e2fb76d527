package clients;

import static clients.Env.check;
import static clients.Env.equal;
import static clients.Env.expect;

import java.io.FileReader;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialDeletion;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.errors.ClusterAuthorizationException;
import org.apache.kafka.common.errors.GroupAuthorizationException;
import org.apache.kafka.common.errors.SaslAuthenticationException;
import org.apache.kafka.common.errors.SslAuthenticationException;
import org.apache.kafka.common.errors.TopicAuthorizationException;
import org.apache.kafka.common.errors.TransactionalIdAuthorizationException;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Logging in and being allowed. These run against a broker of their own; what
 * is a bootstrap address elsewhere is the folder with NAME.properties of every
 * way to log in.
 */
final class SecurityCases {
    private static final Map<String, String> LOGINS = Map.of("scram", "ann", "tls-scram", "ann", "tls-plain", "ann",
            "certificate", "till", "token", "cloud", "brief", "ann");

    static void add(Map<String, Main.Case> all) {
        LOGINS.forEach((login, user) -> all.put("security/login-" + login, env -> login(env, login, user)));
        all.put("security/wrong-password", env -> refused(env, "bad", SaslAuthenticationException.class));
        all.put("security/unknown-authority", env -> refused(env, "wrong-ca", SslAuthenticationException.class));
        all.put("security/scram-user-made", SecurityCases::scramUser);
        all.put("security/session-renewed", SecurityCases::reauthentication);
        all.put("security/acl-topics", SecurityCases::topics);
        all.put("security/acl-groups", SecurityCases::groups);
        all.put("security/acl-cluster-and-transactions", SecurityCases::cluster);
        all.put("security/acl-admin", SecurityCases::acls);
        all.put("security/quota-throttles", SecurityCases::quota);
    }

    private static Properties as(Env env, String login, Object... more) throws Exception {
        var p = new Properties();
        try (var r = new FileReader(Path.of(env.bootstrap, login + ".properties").toFile())) {
            p.load(r);
        }
        p.putAll(Env.map(more));
        p.put("request.timeout.ms", "10000");
        return p;
    }

    private static Admin admin(Env env, String login) throws Exception {
        return env.keep(Admin.create(as(env, login)));
    }

    private static KafkaProducer<String, String> producer(Env env, String login, Object... more) throws Exception {
        return env.keep(new KafkaProducer<>(as(env, login, more), new StringSerializer(), new StringSerializer()));
    }

    private static KafkaConsumer<String, String> consumer(Env env, String login, Object... more) throws Exception {
        var p = as(env, login, more);
        p.put("auto.offset.reset", "earliest");
        return env.keep(new KafkaConsumer<>(p, new StringDeserializer(), new StringDeserializer()));
    }

    private static String topic(Env env) throws Exception {
        String name = env.unique();
        admin(env, "admin").createTopics(List.of(new NewTopic(name, 1, (short) 1))).all().get();
        return name;
    }

    private static AclBinding rule(String user, AclPermissionType type, AclOperation op, ResourceType kind, PatternType pattern, String name) {
        return new AclBinding(new ResourcePattern(kind, name, pattern), new AccessControlEntry("User:" + user, "*", op, type));
    }

    private static void allow(Env env, String user, AclOperation op, ResourceType kind, String name) throws Exception {
        admin(env, "admin").createAcls(List.of(rule(user, AclPermissionType.ALLOW, op, kind, PatternType.LITERAL, name))).all().get();
    }

    private static long send(KafkaProducer<String, String> p, String topic, String value) throws Exception {
        return p.send(new ProducerRecord<>(topic, value)).get().offset();
    }

    private static void login(Env env, String login, String user) throws Exception {
        String topic = topic(env);
        var p = producer(env, login);
        expect(TopicAuthorizationException.class, () -> send(p, topic, "refused"));
        allow(env, user, AclOperation.WRITE, ResourceType.TOPIC, topic);
        allow(env, user, AclOperation.READ, ResourceType.TOPIC, topic);
        equal(send(producer(env, login), topic, "v"), 0L, "offset");
        var c = consumer(env, login);
        c.assign(List.of(new TopicPartition(topic, 0)));
        equal(Env.values(Env.read(c, 1)), List.of("v"), "values");
    }

    private static void refused(Env env, String login, Class<? extends Throwable> want) throws Exception {
        var a = admin(env, login);
        expect(want, () -> a.describeCluster().nodes().get());
    }

    private static void scramUser(Env env) throws Exception {
        var a = admin(env, "admin");
        var info = new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 8192);
        a.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion("made", info, "made secret"))).all().get();
        admin(env, "made").describeCluster().nodes().get();
        Env.ask("kill");
        admin(env, "made").describeCluster().nodes().get();
        a.alterUserScramCredentials(List.of(new UserScramCredentialDeletion("made", ScramMechanism.SCRAM_SHA_256))).all().get();
        refused(env, "made", SaslAuthenticationException.class);
    }

    /** KIP-368: a session of two seconds goes on, because the client logs in again. */
    private static void reauthentication(Env env) throws Exception {
        String topic = topic(env);
        allow(env, "ann", AclOperation.WRITE, ResourceType.TOPIC, topic);
        var p = producer(env, "brief");
        Env.eventually("the client has logged in again", () -> {
            send(p, topic, "v");
            return p.metrics().entrySet().stream().anyMatch(m -> m.getKey().name().equals("successful-reauthentication-total")
                    && (Double) m.getValue().metricValue() >= 1);
        });
        send(p, topic, "v");
    }

    private static void topics(Env env) throws Exception {
        String prefix = env.unique();
        var a = admin(env, "admin");
        a.createTopics(List.of(new NewTopic(prefix + "-open", 1, (short) 1), new NewTopic(prefix + "-shut", 1, (short) 1),
                new NewTopic(env.unique(), 1, (short) 1))).all().get();
        a.createAcls(List.of(
                rule("ann", AclPermissionType.ALLOW, AclOperation.ALL, ResourceType.TOPIC, PatternType.PREFIXED, prefix),
                rule("ann", AclPermissionType.DENY, AclOperation.WRITE, ResourceType.TOPIC, PatternType.LITERAL, prefix + "-shut"))).all().get();
        var p = producer(env, "scram");
        equal(send(p, prefix + "-open", "v"), 0L, "offset");
        expect(TopicAuthorizationException.class, () -> send(p, prefix + "-shut", "v"));
        var mine = admin(env, "scram");
        equal(mine.listTopics().names().get().stream().filter(t -> t.startsWith("security-acl-topics")).sorted().toList(),
                List.of(prefix + "-open", prefix + "-shut"), "the topics that are told");
        expect(TopicAuthorizationException.class, () -> mine.createTopics(List.of(new NewTopic("elsewhere", 1, (short) 1))).all().get());
        mine.createTopics(List.of(new NewTopic(prefix + "-new", 1, (short) 1))).all().get();
        mine.deleteTopics(List.of(prefix + "-new")).all().get();
    }

    private static void groups(Env env) throws Exception {
        String topic = topic(env);
        String group = env.unique();
        allow(env, "ann", AclOperation.READ, ResourceType.TOPIC, topic);
        for (String protocol : List.of("classic", "consumer")) {
            try (var c = consumer(env, "scram", "group.id", group, "group.protocol", protocol)) {
                c.subscribe(List.of(topic));
                expect(GroupAuthorizationException.class, () -> c.poll(Duration.ofSeconds(20)));
            }
        }
        allow(env, "ann", AclOperation.READ, ResourceType.GROUP, group);
        var c = consumer(env, "scram", "group.id", group);
        c.subscribe(List.of(topic));
        Env.eventually("the partition is assigned", () -> {
            c.poll(Duration.ofMillis(100));
            return !c.assignment().isEmpty();
        });
        c.commitSync();
    }

    private static void cluster(Env env) throws Exception {
        var mine = admin(env, "scram");
        expect(ClusterAuthorizationException.class, () -> mine.describeAcls(AclBindingFilter.ANY).values().get());
        String id = env.unique();
        var p = producer(env, "scram", "transactional.id", id);
        expect(TransactionalIdAuthorizationException.class, () -> {
            p.initTransactions();
            return "a producer id";
        });
        allow(env, "ann", AclOperation.WRITE, ResourceType.TRANSACTIONAL_ID, id);
        String topic = topic(env);
        allow(env, "ann", AclOperation.WRITE, ResourceType.TOPIC, topic);
        var q = producer(env, "scram", "transactional.id", id);
        q.initTransactions();
        q.beginTransaction();
        send(q, topic, "v");
        q.commitTransaction();
    }

    private static void acls(Env env) throws Exception {
        var a = admin(env, "admin");
        String name = env.unique();
        var one = rule("bob", AclPermissionType.ALLOW, AclOperation.READ, ResourceType.TOPIC, PatternType.LITERAL, name);
        var two = rule("bob", AclPermissionType.DENY, AclOperation.DELETE, ResourceType.GROUP, PatternType.PREFIXED, name);
        a.createAcls(List.of(one, two)).all().get();
        Env.ask("kill");
        var bobs = new AclBindingFilter(org.apache.kafka.common.resource.ResourcePatternFilter.ANY,
                new org.apache.kafka.common.acl.AccessControlEntryFilter("User:bob", null, AclOperation.ANY, AclPermissionType.ANY));
        equal(java.util.Set.copyOf(a.describeAcls(bobs).values().get()), java.util.Set.of(one, two), "rules");
        equal(a.deleteAcls(List.of(one.toFilter())).all().get(), List.of(one), "deleted");
        equal(List.copyOf(a.describeAcls(bobs).values().get()), List.of(two), "rules left");
    }

    private static void quota(Env env) throws Exception {
        String topic = topic(env);
        allow(env, "ann", AclOperation.WRITE, ResourceType.TOPIC, topic);
        var ann = new ClientQuotaEntity(Map.of(ClientQuotaEntity.USER, "ann"));
        var a = admin(env, "admin");
        a.alterClientQuotas(List.of(new ClientQuotaAlteration(ann, List.of(new ClientQuotaAlteration.Op("producer_byte_rate", 50_000.0))))).all().get();
        var p = producer(env, "scram", "batch.size", "1000");
        for (int i = 0; i < 150; i++) {
            p.send(new ProducerRecord<>(topic, "x".repeat(1000)));
        }
        p.flush();
        check(p.metrics().entrySet().stream().anyMatch(m -> m.getKey().name().equals("produce-throttle-time-max")
                && m.getValue().metricValue() instanceof Double d && d > 0), "the client was told of no throttle time");
        a.alterClientQuotas(List.of(new ClientQuotaAlteration(ann, List.of(new ClientQuotaAlteration.Op("producer_byte_rate", null))))).all().get();
    }
}
