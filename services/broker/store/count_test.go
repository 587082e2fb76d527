package store_test

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/waysideos/wayside/services/broker/store"
)

// claiming is a batch that says it holds n records.
func claiming(b []byte, n int32) []byte {
	binary.BigEndian.PutUint32(b[23:], uint32(n-1)) // last offset delta
	binary.BigEndian.PutUint32(b[57:], uint32(n))
	return seal(b)
}

// A batch that claims more records than it has is found out, as is one that
// has more; one that has as many as it says is taken.
func TestCheckCount(t *testing.T) {
	many := spec{values: make([]string, 3000)}
	for codec := 1; codec < len(codecs); codec++ {
		check := func(b []byte) error {
			h, err := store.Check(b)
			must(t, err)
			return store.CheckCount(b, h)
		}
		if err := check(compressed(t, many, codec)); err != nil {
			t.Errorf("%s: %v", codecs[codec].name, err)
		}
		for _, n := range []int32{2999, 3001, 8_000_000} {
			if err := check(claiming(compressed(t, many, codec), n)); !errors.Is(err, store.ErrInvalid) {
				t.Errorf("%s: 3000 records that claim to be %d: got %v, want that they are invalid", codecs[codec].name, n, err)
			}
		}
	}
}

// Only what claims very many records for its size is counted.
func TestDense(t *testing.T) {
	values := func(n int, v string) spec { return spec{values: strings.Split(strings.Repeat(v+" ", n-1)+v, " ")} }
	for name, c := range map[string]struct {
		b    []byte
		want bool
	}{
		"few":                      {compressed(t, values(1000, "x"), 4), false},
		"not compressed":           {batch(values(5000, "")), false},
		"a lie":                    {claiming(compressed(t, spec{values: []string{strings.Repeat("x", 1<<20)}}, 4), 1<<20), true},
		"many that hardly differ":  {compressed(t, values(5000, "x"), 4), true},
		"a lie that costs no more": {claiming(compressed(t, values(10, "x"), 1), 1024), false},
	} {
		h, err := store.Check(c.b)
		must(t, err)
		if h.Dense() != c.want {
			t.Errorf("%s: %d bytes of %d records: got %v, want %v", name, h.Size(), h.Records, h.Dense(), c.want)
		}
	}
}
