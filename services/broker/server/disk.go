package server

// A call that waits for the disk holds a thread of the operating system, and
// on a slow disk thousands of clients would hold as many as the box allows.
// These many of each kind do, the others wait their turn without one.
const (
	readsAtOnce  = 64
	writesAtOnce = 64
)

// unpacksAtOnce is how many batches are decompressed at once, to be looked into
// or to be compressed in another way. A small batch may take some 30 MB then.
const unpacksAtOnce = 1

// turns are places for calls that may wait for the disk.
type turns chan struct{}

func (t turns) begin() { t <- struct{}{} }
func (t turns) end()   { <-t }
