package filesink

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// sink is one that writes topics "a", "b", ... to a disk that can crash.
type sink struct {
	t      *testing.T
	broker *connecttest.Broker
	disk   *vfs.Crashable
	cfg    site.FileSink
	run    *connecttest.Running
}

func newSink(t *testing.T, profile string) *sink {
	t.Helper()
	text := "version: 1\nsite: box\nconnect:\n  file_sink:\n    - name: out\n      folder: /out\n"
	for line := range strings.Lines(profile) {
		text += "      " + line
	}
	p, err := site.Parse("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return &sink{t: t, broker: connecttest.NewBroker(t), disk: vfs.NewCrashable(5), cfg: p.Connect.FileSink[0]}
}

func (s *sink) start() {
	s.t.Helper()
	disk := s.disk
	c, err := newConnector(s.cfg, func() (vfs.FS, error) { return disk, nil })
	if err != nil {
		s.t.Fatal(err)
	}
	s.run = connecttest.Start(s.t, s.broker.Addr, nil, "", connect.Instance{Connector: c, Name: "out", Protocol: "file_sink", Records: site.DefaultRecords("out")})
}

func (s *sink) write(topic string, values ...string) {
	s.t.Helper()
	var rs []*kgo.Record
	for i, v := range values {
		rs = append(rs, &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "k%d", i), Value: []byte(v), Timestamp: time.UnixMilli(1764338400000)})
	}
	s.broker.Write(rs...)
}

// files waits until there are n.
func (s *sink) files(n int) (names []string) {
	s.t.Helper()
	connecttest.Until(s.t, fmt.Sprintf("%d files", n), func() bool {
		all, err := complete(s.disk, regexp.MustCompile("."), 5)
		names = nil
		for _, d := range all {
			names = append(names, d.name)
		}
		return err == nil && len(names) >= n
	})
	return names
}

func TestCSV(t *testing.T) {
	s := newSink(t, `topics: ["plant*"]
file: "{date}/{topic}-{partition}-{offset}"
rotate: {every: 300ms}
`)
	s.start()
	s.write("plant", `{"b":"x, \"y\"","a":1.50}`, `{"a":null,"n":{"deep":[1, 2]}}`, `no object`, ``)
	names := s.files(3)
	want := []string{
		"2025-11-28/plant-0-000000000000.csv", "2025-11-28/plant-0-000000000001.csv", "2025-11-28/plant-0-000000000002.csv",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Fatalf("files (-want +got):\n%s", diff)
	}
	time1 := "2025-11-28T14:00:00.000Z"
	for i, text := range []string{
		"offset,timestamp,key,b,a\n0," + time1 + ",k0,\"x, \"\"y\"\"\",1.50\n",
		"offset,timestamp,key,b,a,n\n1," + time1 + ",k1,,,\"{\"\"deep\"\":[1,2]}\"\n",
		"offset,timestamp,key,b,a,n,value\n2," + time1 + ",k2,,,,no object\n3," + time1 + ",k3,,,,\n",
	} {
		if diff := cmp.Diff(text, read(t, s.disk, names[i])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", names[i], diff)
		}
	}
}

func TestJSONLines(t *testing.T) {
	s := newSink(t, `topics: [a]
format: json
include: [topic, headers]
rotate: {every: 300ms}
`)
	s.start()
	s.broker.Write(&kgo.Record{Topic: "a", Value: []byte(`{"x": [1, 2.0]}`), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("1")}, {Key: "h", Value: []byte{0xff}}}},
		&kgo.Record{Topic: "a", Value: []byte{0xfe}})
	want := `{"topic":"a","headers":{"h":["1","0xff"]},"value":{"x":[1,2.0]}}` + "\n" + `{"topic":"a","value":"0xfe"}` + "\n"
	if diff := cmp.Diff(want, read(t, s.disk, s.files(1)[0])); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestDeclaredColumnsAndDeadLetters(t *testing.T) {
	s := newSink(t, `topics: [a]
delimiter: ";"
rotate: {every: 300ms}
columns: [{name: speed, from: motor.speed, type: float64}, {name: at, type: timestamp}, {name: unit, from: "header:unit"}]
`)
	s.start()
	s.broker.Write(&kgo.Record{Topic: "a", Value: []byte(`{"motor":{"speed":1e2},"at":1764338400000}`), Headers: []kgo.RecordHeader{{Key: "unit", Value: []byte("rpm")}}},
		&kgo.Record{Topic: "a", Value: []byte(`{"motor":{"speed":"fast"}}`)},
		&kgo.Record{Topic: "a", Value: []byte(`[1]`)})
	want := "speed;at;unit\n100;2025-11-28T14:00:00.000Z;rpm\n"
	if diff := cmp.Diff(want, read(t, s.disk, s.files(1)[0])); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
	letters := s.broker.Read("dead-letters.out", 2)
	if got := string(letters[0].Value); got != `{"motor":{"speed":"fast"}}` {
		t.Errorf("dead letter %s", got)
	}
	if got := letters[1]; string(got.Value) != `[1]` || string(got.Headers[1].Value) != "a/0/2" {
		t.Errorf("dead letter %s, headers %v", got.Value, got.Headers)
	}
}

// On FAT the renamed file says that it is empty until it is synced itself.
func TestTheRenamedFileIsSynced(t *testing.T) {
	s := newSink(t, "topics: [a]\nrotate: {every: 300ms}\n")
	var mu sync.Mutex
	var ops []string
	s.disk.SetHook(func(op vfs.Op, name string) error {
		mu.Lock()
		defer mu.Unlock()
		ops = append(ops, string(op)+" "+name)
		return nil
	})
	s.start()
	s.write("a", `{"x":1}`)
	const name, part = "a-0-000000000000.csv", ".wayside/out/1.part"
	connecttest.Until(t, "the renamed file is synced after its old entry", func() bool {
		mu.Lock()
		defer mu.Unlock()
		renamed := slices.Index(ops, "rename "+part+" -> "+name)
		if renamed < 0 {
			return false
		}
		since := ops[renamed:]
		gone, synced := slices.Index(since, "syncdir .wayside/out"), slices.Index(since, "sync "+name)
		return gone > 0 && synced > gone && slices.Contains(since[synced:], "syncdir .")
	})
}

// A number that JSON does not have holds up no file.
func TestNotANumber(t *testing.T) {
	s := newSink(t, "topics: [a]\nformat: json\nrotate: {every: 300ms}\ncolumns: [{name: v, type: float64}]\n")
	s.start()
	s.write("a", `{"v":"NaN"}`, `{"v":"-Inf"}`, `{"v":1}`)
	want := "{\"v\":\"NaN\"}\n{\"v\":\"-Inf\"}\n{\"v\":1}\n"
	if diff := cmp.Diff(want, read(t, s.disk, s.files(1)[0])); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// Parquet as others read it: types of what was seen, and a column that cannot
// hold what comes becomes text in the next file.
func TestParquet(t *testing.T) {
	s := newSink(t, `topics: [a]
format: parquet
rotate: {every: 300ms}
`)
	s.start()
	s.write("a", `{"f":1.5,"b":true,"s":"x"}`, `{"f":2,"b":null,"s":"y"}`, `{"f":9007199254740993}`)
	names := s.files(2)
	type row struct {
		Offset    *int64     `parquet:"offset,optional"`
		Timestamp *time.Time `parquet:"timestamp,optional,timestamp(millisecond)"`
		Key       *string    `parquet:"key,optional"`
		F         *float64   `parquet:"f,optional"`
		B         *bool      `parquet:"b,optional"`
		S         *string    `parquet:"s,optional"`
	}
	rows := parquetRows[row](t, read(t, s.disk, names[0]))
	at := time.UnixMilli(1764338400000).UTC()
	want := []row{
		{new(int64(0)), &at, new("k0"), new(1.5), new(true), new("x")},
		{new(int64(1)), &at, new("k1"), new(2.0), nil, new("y")},
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	type wide struct {
		F *string `parquet:"f,optional"`
	}
	if got := parquetRows[wide](t, read(t, s.disk, names[1])); len(got) != 1 || *got[0].F != "9007199254740993" {
		t.Errorf("the second file has %v", got)
	}
}

// Files of many columns take much memory: fewer of them grow at once.
func TestParquetOfManyColumns(t *testing.T) {
	const partitions, fields, fit = 16, 400, 4
	s := newSink(t, "topics: [a]\nformat: parquet\nrotate: {every: 1h}\n")
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.broker.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), partitions, -1, nil, "a"); err != nil {
		t.Fatal(err)
	}
	value := []byte(`{"f":1`)
	for i := range fields {
		value = fmt.Appendf(value, `,"f%d":1`, i)
	}
	value = append(value, '}')
	for p := range int32(partitions) {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "a", Partition: p, Value: value}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	s.files(partitions - fit)
}

func parquetRows[T any](t *testing.T, file string) []T {
	t.Helper()
	rows, err := parquet.Read[T](strings.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestRotationAndKeep(t *testing.T) {
	s := newSink(t, `topics: [a]
format: json
rotate: {size: 2kB}
keep: {files: 3}
`)
	s.start()
	var values []string
	for i := range 100 {
		values = append(values, fmt.Sprintf(`{"n":%d,"pad":%q}`, i, strings.Repeat("x", 100)))
	}
	s.write("a", values...)
	connecttest.Until(t, "the files of the end", func() bool {
		all := lines(t, s.disk, ".")
		return len(all) > 0 && strings.Contains(all[len(all)-1], `"offset":9`)
	})
	names := s.files(3)
	if len(names) != 3 || names[0] == "a-0-000000000000.jsonl" {
		t.Errorf("files %q, want the newest 3", names)
	}
	for _, name := range names {
		if n := len(read(t, s.disk, name)); n < 2000 || n > 2400 {
			t.Errorf("%s has %d bytes", name, n)
		}
	}
}

// A full disk is waited for: what was begun is completed, nothing is lost.
func TestFullDisk(t *testing.T) {
	s := newSink(t, `topics: [a]
format: json
rotate: {size: 2kB, every: 300ms}
`)
	s.disk.SetCapacity(100_000)
	s.start()
	var values []string
	for i := range 1000 {
		values = append(values, fmt.Sprintf(`{"n":%d,"pad":%q}`, i, strings.Repeat("x", 100)))
	}
	s.write("a", values...)
	connecttest.Until(t, "the disk is full", func() bool { return strings.Contains(s.run.State("out").Error, "full") })
	s.disk.SetCapacity(0)
	connecttest.Until(t, "all records", func() bool { return len(lines(t, s.disk, ".")) >= 1000 })
	once(t, lines(t, s.disk, "."), 1000)
	if s.run.State("out").Restarts != 0 {
		t.Errorf("it failed %d times instead of waiting", s.run.State("out").Restarts)
	}
}

// What is deleted while the disk is full is told, and what was not is written.
func TestDeletedWhileItWaits(t *testing.T) {
	s := newSink(t, "topics: [a]\nformat: json\nrotate: {size: 100kB, every: 300ms}\n")
	s.disk.SetCapacity(2_000_000)
	var values []string
	rng := rand.NewChaCha8([32]byte{1})
	pad := make([]byte, 5000) // of which a fetch does not hold many
	for i := range 1000 {
		_, _ = rng.Read(pad)
		values = append(values, fmt.Sprintf(`{"n":%d,"pad":"%x"}`, i, pad))
	}
	s.write("a", values...)
	s.start()
	connecttest.Until(t, "the disk is full", func() bool { return strings.Contains(s.run.State("out").Error, "full") })
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.broker.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var upTo kadm.Offsets
	upTo.AddOffset("a", 0, 900, -1)
	deleted, err := kadm.NewClient(cl).DeleteRecords(t.Context(), upTo)
	if err := errors.Join(err, deleted.Error()); err != nil {
		t.Fatal(err)
	}
	s.disk.SetCapacity(0)
	var all []string
	connecttest.Until(t, "the last record", func() bool {
		all = lines(t, s.disk, ".")
		return len(all) > 0 && strings.Contains(all[len(all)-1], `"n":999,`)
	})
	if dropped := s.run.State("out").Dropped; dropped == 0 || len(all)+int(dropped) != 1000 {
		t.Errorf("%d records are written and %d were told as lost, want 1000 together", len(all), dropped)
	}
}

// Of transactions what was committed is written; what ends them is no record,
// and none that is missing.
func TestTransactions(t *testing.T) {
	s := newSink(t, "topics: [a]\nformat: json\ninclude: [offset]\nrotate: {every: 300ms}\n")
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.broker.Addr), kgo.TransactionalID("x"), kgo.AllowAutoTopicCreation())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for i, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		produced := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "a", Value: fmt.Appendf(nil, "%d", i)}).FirstErr()
		if err := errors.Join(produced, cl.EndTransaction(t.Context(), end)); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	var all []string
	connecttest.Until(t, "the last record", func() bool {
		all = lines(t, s.disk, ".")
		return len(all) > 0 && strings.Contains(all[len(all)-1], `"value":2`)
	})
	if diff := cmp.Diff([]string{`{"offset":0,"value":0}`, `{"offset":4,"value":2}`}, all); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	var upTo kadm.Offsets
	upTo.AddOffset("a", 0, 6, -1) // the last end too
	if deleted, err := kadm.NewClient(cl).DeleteRecords(t.Context(), upTo); errors.Join(err, deleted.Error()) != nil {
		t.Fatal(err, deleted)
	}
	s.write("a", "3")
	s.files(2)
	if n := s.run.State("out").Dropped; n != 0 {
		t.Errorf("%d records are said to be lost", n)
	}
}

// once wants each record once: JSON lines that begin with their offset.
func once(t *testing.T, all []string, n int) {
	t.Helper()
	seen := map[string]int{}
	for _, line := range all {
		offset, _, _ := strings.Cut(strings.TrimPrefix(line, `{"offset":`), ",")
		seen[offset]++
	}
	for i := range n {
		if got := seen[fmt.Sprint(i)]; got != 1 {
			t.Fatalf("record %d is there %d times, want once", i, got)
		}
	}
}

// Power is cut at each operation on the disk in turn; a restart goes on
// without a loss or a repetition.
func TestOnceOverPowerCuts(t *testing.T) {
	t.Run("ext4", func(t *testing.T) { onceOverPowerCuts(t, vfs.NewCrashable(5)) })
	t.Run("FAT", func(t *testing.T) { onceOverPowerCuts(t, vfs.NewCrashableFAT(5)) })
}

func onceOverPowerCuts(t *testing.T, disk *vfs.Crashable) {
	const records = 150
	s := newSink(t, `topics: [a]
format: json
file: "{topic}/{partition}/{offset}"
rotate: {size: 1kB, every: 300ms}
`)
	s.disk = disk
	var values []string
	for i := range records {
		values = append(values, fmt.Sprintf(`{"n":%d,"pad":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}`, i))
	}
	s.write("a", values...)
	cuts := 0
	for step := 1; ; step++ {
		after := make(chan *vfs.Crashable, 1)
		disk := s.disk
		s.cut(step, after)
		s.start()
		var crashed *vfs.Crashable
		connecttest.Until(t, "a cut, or all files", func() bool {
			select {
			case crashed = <-after:
				return true
			default:
				return len(lines(t, disk, ".")) >= records
			}
		})
		disk.SetHook(nil)
		s.run.Stop()
		if crashed == nil {
			break
		}
		cuts++
		s.disk = crashed
	}
	once(t, lines(t, s.disk, "."), records)
	t.Logf("%d power cuts", cuts)
	if cuts < 10 {
		t.Errorf("power was cut %d times, want many", cuts)
	}
	left, err := s.disk.ReadDir(".wayside/out")
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// cut takes the power at the n-th operation from now.
func (s *sink) cut(n int, after chan<- *vfs.Crashable) {
	var mu sync.Mutex
	disk := s.disk
	disk.SetHook(func(op vfs.Op, _ string) error {
		mu.Lock()
		defer mu.Unlock()
		if op == vfs.OpOpen || op == vfs.OpRead {
			return nil // nothing changes
		}
		if n--; n != 0 {
			return nil
		}
		after <- disk.Crash()
		return vfs.ErrCrashed
	})
}

func TestTopicsOfThePattern(t *testing.T) {
	s := newSink(t, `topics: ["*"]
format: json
columns: [{name: n}]
rotate: {every: 200ms}
`)
	s.write("wayside-own", `{"n":1}`)
	s.start()
	s.write("a", `{"n":1}`, `none`)
	s.broker.Read("dead-letters.out", 1)
	s.write("b", `{"n":2}`)
	names := s.files(2)
	if diff := cmp.Diff([]string{"a-0-000000000000.jsonl", "b-0-000000000000.jsonl"}, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if got := s.broker.ReadFor("dead-letters.out", 2, 700*time.Millisecond); len(got) != 1 {
		t.Errorf("%d dead letters, want 1: it reads its own", len(got))
	}
}

// A topic that was deleted and made again has the same offsets.
func TestATakenName(t *testing.T) {
	s := newSink(t, "topics: [a]\nformat: json\nrotate: {every: 200ms}\n")
	if err := vfs.WriteWhole(s.disk, "a-0-000000000000.jsonl", []byte("of before\n")); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.write("a", `1`)
	if got := s.files(2); !slices.Contains(got, "a-0-000000000000.1.jsonl") {
		t.Errorf("files %q", got)
	}
	if read(t, s.disk, "a-0-000000000000.jsonl") != "of before\n" {
		t.Error("the file of before was written over")
	}
}

func TestOldPositionIsNotGuessed(t *testing.T) {
	if _, err := parsePosition([]byte(`{"version":2}`)); err == nil {
		t.Error("a position of another version is taken")
	}
	if _, err := stick(t.TempDir(), "out"); !errors.Is(err, errAway) {
		t.Errorf("no stick: %v", err)
	}
}

func FuzzFields(f *testing.F) {
	for _, s := range []string{`{"a":1}`, `{"a":{"b":[1,"x"]},"a":2}`, `{} x`, `{"a"`, `nul`, "\xff", ``, `{"":1}`, `{"a.b":{},"a":[]}`} {
		f.Add([]byte(s))
	}
	cfg := site.FileSink{Format: site.SinkParquet, Include: []string{"offset"}}
	f.Fuzz(func(t *testing.T, value []byte) {
		table := newTable(&cfg)
		r := &kgo.Record{Value: value}
		fs, err := table.parse(r)
		if err != nil {
			return
		}
		if err := table.learn(fs); err != nil {
			return
		}
		cells, err := row(table.columns, r, fs)
		if err != nil {
			t.Fatal(err)
		}
		enc := newParquet(table.columns, &strings.Builder{})
		if err := errors.Join(enc.add(cells), enc.close()); err != nil {
			t.Fatal(err)
		}
	})
}
