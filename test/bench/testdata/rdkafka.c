// A client of librdkafka for test/bench. It declares what it uses of
// rdkafka.h, so that the library's package is enough and its headers are not
// needed:
//   client produce|consume BROKER TOPIC RECORDS BYTES CODEC PARTITIONS
// produce is idempotent with acks=all. It prints what was measured as JSON.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

typedef struct rd_kafka rd_kafka_t;
typedef struct rd_kafka_topic rd_kafka_topic_t;
typedef struct rd_kafka_queue rd_kafka_queue_t;
typedef struct rd_kafka_conf rd_kafka_conf_t;
typedef struct {
  int err;
  rd_kafka_topic_t *rkt;
  int32_t partition;
  void *payload;
  size_t len;
  void *key;
  size_t key_len;
  int64_t offset;
  void *priv;
} rd_kafka_message_t;

rd_kafka_conf_t *rd_kafka_conf_new(void);
int rd_kafka_conf_set(rd_kafka_conf_t *, const char *, const char *, char *, size_t);
void rd_kafka_conf_set_dr_msg_cb(rd_kafka_conf_t *, void (*)(rd_kafka_t *, const rd_kafka_message_t *, void *));
rd_kafka_t *rd_kafka_new(int type, rd_kafka_conf_t *, char *, size_t);
rd_kafka_topic_t *rd_kafka_topic_new(rd_kafka_t *, const char *, void *);
int rd_kafka_produce(rd_kafka_topic_t *, int32_t, int, void *, size_t, const void *, size_t, void *);
int rd_kafka_poll(rd_kafka_t *, int);
int rd_kafka_outq_len(rd_kafka_t *);
rd_kafka_queue_t *rd_kafka_queue_new(rd_kafka_t *);
int rd_kafka_consume_start_queue(rd_kafka_topic_t *, int32_t, int64_t, rd_kafka_queue_t *);
ssize_t rd_kafka_consume_batch_queue(rd_kafka_queue_t *, int, rd_kafka_message_t **, size_t);
void rd_kafka_message_destroy(rd_kafka_message_t *);

static char errstr[512];
static long delivered, failed;

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque) {
  if (m->err)
    failed++;
  else
    delivered++;
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
  if (rd_kafka_conf_set(conf, name, value, errstr, sizeof errstr)) {
    fprintf(stderr, "%s\n", errstr);
    exit(1);
  }
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void produce(rd_kafka_t *rk, rd_kafka_topic_t *topic, long n, size_t size) {
  char *value = malloc(size);
  for (size_t i = 0; i < size; i++)
    value[i] = (char)(i * 7);
  for (long i = 0; i < n;) {
    if (rd_kafka_produce(topic, -1, 2 /* copy */, value, size, NULL, 0, NULL) == 0)
      i++;
    else
      rd_kafka_poll(rk, 1); // the queue is full
    if (i % 1000 == 0)
      rd_kafka_poll(rk, 0);
  }
  while (rd_kafka_outq_len(rk) > 0)
    rd_kafka_poll(rk, 10);
  if (failed || delivered != n) {
    fprintf(stderr, "%ld of %ld records delivered\n", delivered, n);
    exit(1);
  }
}

static void consume(rd_kafka_t *rk, rd_kafka_topic_t *topic, long n, int partitions) {
  rd_kafka_queue_t *q = rd_kafka_queue_new(rk);
  rd_kafka_message_t *m[1000];
  for (int p = 0; p < partitions; p++)
    rd_kafka_consume_start_queue(topic, p, -2 /* beginning */, q);
  for (long got = 0; got < n;) {
    ssize_t k = rd_kafka_consume_batch_queue(q, 50, m, 1000);
    for (ssize_t i = 0; i < k; i++) {
      if (m[i]->err == 0)
        got++;
      rd_kafka_message_destroy(m[i]);
    }
  }
}

int main(int argc, char **argv) {
  if (argc != 8)
    return 2;
  int producing = strcmp(argv[1], "produce") == 0;
  long n = atol(argv[4]);
  size_t size = atol(argv[5]);
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  set(conf, "bootstrap.servers", argv[2]);
  if (producing) {
    set(conf, "enable.idempotence", "true");
    set(conf, "linger.ms", "5");
    set(conf, "compression.codec", argv[6]);
    set(conf, "queue.buffering.max.messages", "100000");
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
  }
  rd_kafka_t *rk = rd_kafka_new(producing ? 0 : 1, conf, errstr, sizeof errstr);
  if (!rk) {
    fprintf(stderr, "%s\n", errstr);
    return 1;
  }
  rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, argv[3], NULL);
  double begin = now();
  if (producing)
    produce(rk, topic, n, size);
  else
    consume(rk, topic, n, atoi(argv[7]));
  printf("{\"Seconds\": %f, \"Bytes\": %ld, \"Requests\": %ld}\n", now() - begin, n * (long)size, n);
  fflush(stdout);
  _Exit(0); // closing takes its time and is not measured
}
