package connect

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
)

// duckdb is what DuckDB answers to queries, as JSON has it.
func duckdb(t testing.TB, queries ...string) (answers [][][]any) {
	t.Helper()
	out := output(t, python(t, "duckdb==1.1.3"), append([]string{"testdata/python/duckdb_rows.py"}, queries...)...)
	for line := range strings.Lines(out) {
		var rows [][]any
		if err := json.Unmarshal([]byte(line), &rows); err != nil {
			t.Fatalf("DuckDB said %q: %v", line, err)
		}
		answers = append(answers, rows)
	}
	return answers
}

// TestParquetDuckDB: another implementation reads the file sink's Parquet:
// types, what is absent, times, and files of many groups of rows.
func TestParquetDuckDB(t *testing.T) {
	need(t)
	kafka := edge(t)
	folders := map[string]string{"typed": t.TempDir(), "learned": t.TempDir()}
	at := time.Date(2026, 11, 28, 14, 0, 0, 7e6, time.UTC)
	produce(t, kafka.addr,
		&kgo.Record{Topic: "typed", Key: []byte("k"), Timestamp: at, Headers: []kgo.RecordHeader{{Key: "unit", Value: []byte("°C")}},
			Value: []byte(`{"text":"Hällo, \"du\"\n","ok":true,"n":-9007199254740993,"in":{"x":1e-300},"at":"1969-12-31T23:59:59.999Z"}`)},
		&kgo.Record{Topic: "typed", Timestamp: at.Add(time.Second), Value: []byte(`{"text":null,"in":{"x":"NaN"}}`)},
		&kgo.Record{Topic: "typed", Key: []byte{0xff}, Timestamp: at.Add(2 * time.Second), Value: []byte(`{"text":"","ok":false,"n":0,"in":{"x":-0.5},"at":1764338400000}`)})
	const many = 6000
	var rs []*kgo.Record
	for i := range many { // more than one group of rows holds
		rs = append(rs, &kgo.Record{Topic: "learned", Value: fmt.Appendf(nil, `{"i":%d,"even":%t,"pad":"%d%s"}`, i, i%2 == 0, i, strings.Repeat("·", 500))})
	}
	produce(t, kafka.addr, rs...) // before it is read, or one file would not have them all
	connectors(t, "--broker", kafka.addr, "--data", t.TempDir(), "--site", profile(t, fmt.Sprintf(`connect:
  file_sink:
    - name: typed
      topics: [typed]
      folder: %[1]q
      format: parquet
      include: [partition, offset, timestamp, key, headers]
      columns: [{name: text, type: string}, {name: ok, type: bool}, {name: n, type: int64}, {name: x, from: in.x, type: float64}, {name: at, type: timestamp}]
      rotate: {every: 500ms}
    - {name: learned, topics: [learned], folder: %[2]q, format: parquet, rotate: {every: 4s}}
`, folders["typed"], folders["learned"])))
	files := func(topic string) string { return fmt.Sprintf("read_parquet('%s/*.parquet')", folders[topic]) }
	whole := func(topic string, rows float64) func() bool {
		return func() bool {
			if found, _ := filepath.Glob(filepath.Join(folders[topic], "*.parquet")); len(found) == 0 {
				return false // DuckDB calls that an error
			}
			return duckdb(t, "SELECT count(*) FROM "+files(topic))[0][0][0] == rows
		}
	}
	until(t, "the small files", whole("typed", 3))
	until(t, "the large files", whole("learned", many))

	got := duckdb(t,
		"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM "+files("typed")+") ORDER BY 1",
		`SELECT "partition", "offset", epoch_ms("timestamp"), key, headers, text, ok, n::VARCHAR, isnan(x), CASE WHEN NOT isnan(x) THEN x END, epoch_ms(at) FROM `+files("typed")+` ORDER BY "offset"`,
		"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM "+files("learned")+") ORDER BY 1",
		`SELECT count(*) FROM `+files("learned")+` WHERE i = "offset" AND even = (i % 2 = 0) AND pad = concat(i::BIGINT, repeat('·', 500)) AND key IS NULL`,
		fmt.Sprintf("SELECT DISTINCT compression FROM parquet_metadata('%s/*.parquet')", folders["typed"]),
		fmt.Sprintf("SELECT DISTINCT compression, max(row_group_id) > 0 FROM parquet_metadata('%s/*.parquet') GROUP BY compression", folders["learned"]))
	ms := func(at time.Time) float64 { return float64(at.UnixMilli()) }
	want := [][][]any{
		{{"at", "TIMESTAMP WITH TIME ZONE"}, {"headers", "VARCHAR"}, {"key", "VARCHAR"}, {"n", "BIGINT"}, {"offset", "BIGINT"}, {"ok", "BOOLEAN"},
			{"partition", "BIGINT"}, {"text", "VARCHAR"}, {"timestamp", "TIMESTAMP WITH TIME ZONE"}, {"x", "DOUBLE"}},
		{
			{0.0, 0.0, ms(at), "k", `{"unit":"°C"}`, "Hällo, \"du\"\n", true, "-9007199254740993", false, 1e-300, -1.0},
			{0.0, 1.0, ms(at) + 1000, nil, nil, nil, nil, nil, true, nil, nil},
			{0.0, 2.0, ms(at) + 2000, "0xff", nil, "", false, "0", false, -0.5, 1764338400000.0},
		},
		{{"even", "BOOLEAN"}, {"i", "DOUBLE"}, {"key", "VARCHAR"}, {"offset", "BIGINT"}, {"pad", "VARCHAR"}, {"timestamp", "TIMESTAMP WITH TIME ZONE"}},
		{{float64(many)}},
		{{"ZSTD"}},
		{{"ZSTD", true}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("DuckDB reads (-want +got):\n%s", diff)
	}
}
