package filesink

import (
	"encoding/json"
	"io"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
)

// groupBytes is about how much of a Parquet file waits in memory: a group of
// rows is written at once.
const groupBytes = 2 << 20

// parquetFile has one optional column for each; the library orders them by
// name.
type parquetFile struct {
	out     counter
	w       *parquet.Writer
	columns []column
	at      []int // place in the schema of each of columns
	row     parquet.Row
	waiting int64 // bytes in memory, about
}

func newParquet(columns []column, w io.Writer) *parquetFile {
	f := &parquetFile{out: counter{Writer: w}, columns: columns, at: make([]int, len(columns)), row: make(parquet.Row, len(columns))}
	group, place := parquet.Group{}, map[string]int{}
	for i, c := range columns {
		place[c.name] = i
		group[c.name] = parquet.Optional(c.kind.node())
	}
	schema := parquet.NewSchema("record", group)
	for n, path := range schema.Columns() {
		f.at[place[path[0]]] = n
	}
	f.w = parquet.NewWriter(&f.out, schema, parquet.Compression(&zstd.Codec{Level: zstd.DefaultLevel}),
		parquet.PageBufferSize(64<<10), parquet.WriteBufferSize(0), parquet.CreatedBy("wayside", "1", "0"))
	return f
}

func (k kind) node() parquet.Node {
	switch k {
	case boolean:
		return parquet.Leaf(parquet.BooleanType)
	case integer:
		return parquet.Int(64)
	case double:
		return parquet.Leaf(parquet.DoubleType)
	case timestamp:
		return parquet.Timestamp(parquet.Millisecond)
	}
	return parquet.String()
}

func (f *parquetFile) add(row []any) error {
	for i, v := range row {
		at, level := f.at[i], 1
		var p parquet.Value
		if v == nil {
			level = 0
		} else {
			p = f.columns[i].kind.value(v)
		}
		f.row[at] = p.Level(0, level, at)
		f.waiting += 8
		if k := f.columns[i].kind; v != nil && (k == words || k == unknown) {
			f.waiting += int64(len(p.ByteArray()))
		}
	}
	if _, err := f.w.WriteRows([]parquet.Row{f.row}); err != nil {
		return err
	}
	if f.waiting < groupBytes {
		return nil
	}
	f.waiting = 0
	return f.w.Flush()
}

// value is one of a column of this kind; columns were made to hold it.
func (k kind) value(v any) parquet.Value {
	switch v := v.(type) {
	case bool:
		if k == boolean {
			return parquet.BooleanValue(v)
		}
	case int64:
		if k == integer {
			return parquet.Int64Value(v)
		}
	case float64:
		if k == double {
			return parquet.DoubleValue(v)
		}
	case json.Number:
		if n, err := v.Float64(); k == double && err == nil {
			return parquet.DoubleValue(n)
		}
	case time.Time:
		if k == timestamp {
			return parquet.Int64Value(v.UnixMilli())
		}
	}
	return parquet.ByteArrayValue([]byte(text(v)))
}

func (f *parquetFile) size() int64  { return f.out.n + f.waiting }
func (f *parquetFile) close() error { return f.w.Close() }
