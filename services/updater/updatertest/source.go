package updatertest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"

	"github.com/waysideos/wayside/services/updater/source"
)

// Files is a source in memory.
type Files map[string][]byte

// Source is a copy of what the repository has now.
func (r *Repo) Source() Files { return maps.Clone(Files(r.Files)) }

func (f Files) String() string { return "memory" }

// Open implements source.Source.
func (f Files) Open(_ context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	data, ok := f[name]
	if !ok {
		return nil, &source.Error{Source: f.String(), Name: name, Kind: source.NotThere, Err: errors.New("no such file")}
	}
	data = data[min(offset, int64(len(data))):]
	if length != source.Rest {
		data = data[:min(length, int64(len(data)))]
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}
