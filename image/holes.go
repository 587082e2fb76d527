package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
)

// seekData is lseek's SEEK_DATA, which systems number differently.
var seekData = map[string]int{"linux": 3, "darwin": 4}[runtime.GOOS]

// nextData returns the first offset from off on that may hold data. Holes of
// a sparse file read as zeros, but reading them costs like reading data.
func nextData(img io.ReaderAt, off int64) int64 {
	f, ok := img.(*os.File)
	if !ok || seekData == 0 {
		return off
	}
	at, err := f.Seek(off, seekData)
	switch {
	case errors.Is(err, syscall.ENXIO): // nothing but a hole up to the end
		return 1<<63 - 1
	case err != nil: // a file system without holes
		return off
	}
	return at
}

// checkZeros refuses a range of an image that is not all zeros.
func checkZeros(img io.ReaderAt, from, to int64) error {
	zeros, buf := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := nextData(img, from); at < to; at = nextData(img, at) {
		part := buf[:min(int64(len(buf)), to-at)]
		if n, err := img.ReadAt(part, at); n < len(part) {
			return fmt.Errorf("read byte %d: %v", at, err)
		}
		if !bytes.Equal(part, zeros[:len(part)]) {
			return fmt.Errorf("bytes behind the hash tree are not zero, in the MiB from byte %d of the image on", at)
		}
		at += int64(len(part))
	}
	return nil
}
