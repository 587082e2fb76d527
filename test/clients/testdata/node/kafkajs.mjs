// KafkaJS, which speaks older versions of many requests than the others.
// Reports its cases by the lines that Main.java describes.
import assert from 'node:assert/strict'
import readline from 'node:readline'
import kafkajs from 'kafkajs'

const { Kafka, CompressionTypes, ConfigResourceTypes, logLevel } = kafkajs
const [bootstrap, ...wanted] = process.argv.slice(2)
const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.NOTHING, retry: { maxRetryTime: 2000, retries: 30 } })
const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const span = (a, b) => Array.from({ length: b - a }, (_, i) => String(a + i))

// ask has the test do something to the broker: "restart" or "kill".
async function ask(what) {
  console.log('@' + what)
  assert.equal((await answers.next()).value, 'done')
}

async function eventually(what, holds) {
  for (const end = Date.now() + 40_000; Date.now() < end;) {
    if (await holds()) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error('in time this never was: ' + what)
}

async function withAdmin(f) {
  const admin = kafka.admin()
  await admin.connect()
  try {
    return await f(admin)
  } finally {
    await admin.disconnect()
  }
}

const makeTopic = (topic, numPartitions = 1) =>
  withAdmin((admin) => admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1 }] }))

async function produce(topic, values, options = {}, producerOptions = {}) {
  const producer = kafka.producer(producerOptions)
  await producer.connect()
  await producer.send({ topic, acks: -1, messages: values.map((value) => ({ key: value, value, headers: { h: value } })), ...options })
  await producer.disconnect()
}

// member consumes by a group until it is stopped.
async function member(topic, groupId, seen) {
  const consumer = kafka.consumer({ groupId, heartbeatInterval: 200, sessionTimeout: 6000, rebalanceTimeout: 10000, maxWaitTimeInMs: 200, readUncommitted: false })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommitThreshold: 1,
    eachMessage: async ({ message }) => {
      assert.equal(String(message.headers.h), String(message.value))
      seen.push(String(message.value))
    },
  })
  return consumer
}

async function readAll(topic, n) {
  const seen = []
  const consumer = await member(topic, topic + '-reader', seen)
  await eventually(n + ' records', () => seen.length >= n)
  await consumer.disconnect()
  return seen
}

const cases = {}

for (const codec of ['None', 'GZIP']) {
  cases['compression-' + codec.toLowerCase()] = async (topic) => {
    await makeTopic(topic)
    await produce(topic, span(0, 100), { compression: CompressionTypes[codec] })
    assert.deepEqual(await readAll(topic, 100), span(0, 100))
  }
}

cases['idempotent'] = async (topic) => {
  await makeTopic(topic)
  await produce(topic, span(0, 100), {}, { idempotent: true, maxInFlightRequests: 1 })
  assert.deepEqual(await readAll(topic, 100), span(0, 100))
}

cases['transactions'] = async (topic) => {
  await makeTopic(topic)
  const producer = kafka.producer({ transactionalId: topic, idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  for (const [i, end] of ['commit', 'abort', 'commit'].entries()) {
    const t = await producer.transaction()
    await t.send({ topic, messages: span(10 * i, 10 * i + 10).map((value) => ({ value, headers: { h: value } })) })
    await t.sendOffsets({ consumerGroupId: topic, topics: [{ topic, partitions: [{ partition: 0, offset: String(i + 1) }] }] })
    await t[end]()
  }
  await producer.disconnect()
  assert.deepEqual(await readAll(topic, 20), [...span(0, 10), ...span(20, 30)])
  const [offsets] = await withAdmin((admin) => admin.fetchOffsets({ groupId: topic, topics: [topic] }))
  assert.equal(offsets.partitions[0].offset, '3')
}

cases['group'] = async (topic) => {
  await makeTopic(topic, 4)
  const seen = []
  const consumers = [await member(topic, topic, seen), await member(topic, topic, seen)]
  await eventually('two members', () => withAdmin(async (admin) => {
    const { groups: [group] } = await admin.describeGroups([topic])
    return group.state === 'Stable' && group.members.length === 2
  }))
  await produce(topic, span(0, 100))
  await eventually('all is read', () => seen.length >= 100)
  await ask('kill')
  await produce(topic, span(100, 150))
  await eventually('the rest is read', () => new Set(seen).size === 150)
  await Promise.all(consumers.map((c) => c.disconnect()))
}

cases['admin'] = (topic) => withAdmin(async (admin) => {
  await admin.createTopics({ topics: [{ topic, numPartitions: 2, replicationFactor: 1, configEntries: [{ name: 'retention.ms', value: '3600000' }] }] })
  await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] })
  await produce(topic, span(0, 30))
  const offsets = await admin.fetchTopicOffsets(topic)
  assert.equal(offsets.reduce((n, o) => n + Number(o.high), 0), 30)
  const { resources: [{ configEntries }] } = await admin.describeConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }] })
  assert.equal(configEntries.find((e) => e.configName === 'retention.ms').configValue, '3600000')
  await admin.alterConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries: [{ name: 'retention.ms', value: '7200000' }] }] })
  const first = offsets.find((o) => Number(o.high) > 1)
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: first.partition, offset: '1' }] })
  assert.equal((await admin.fetchTopicOffsets(topic)).find((o) => o.partition === first.partition).low, '1')
  const cluster = await admin.describeCluster()
  assert.equal(cluster.brokers.length, 1)
  await admin.deleteTopics({ topics: [topic] })
  assert.ok(!(await admin.listTopics()).includes(topic))
})

for (const [name, run] of Object.entries(cases)) {
  if (wanted.length > 0 && !wanted.some((part) => name.includes(part))) continue
  console.log('@begin ' + name)
  try {
    await run('kafkajs-' + name)
    console.log('@pass ' + name)
  } catch (e) {
    console.log(e.stack)
    console.log('@fail ' + name)
  }
}
process.exit(0)
