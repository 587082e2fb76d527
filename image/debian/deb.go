package debian

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// A .deb (deb(5)) is an ar archive of three members, in this order:
//
//	"!<arch>\n"
//	debian-binary      "2.0\n"
//	control.tar.*      metadata and maintainer scripts, not read
//	data.tar[.xz|.zst|.gz]
//
// Each member has a header of 60 bytes and is padded to an even length. The
// header is read here and not by an ar library: the one there is panics on
// damaged ones.
const (
	arMagic  = "!<arch>\n"
	arHeader = 60
)

// openData returns the unpacked data.tar of a .deb. The caller closes it.
func openData(deb io.ReaderAt, size int64) (io.ReadCloser, error) {
	var magic [len(arMagic)]byte
	if _, err := deb.ReadAt(magic[:], 0); err != nil || string(magic[:]) != arMagic {
		return nil, errors.New("not a .deb: no ar archive")
	}
	for at := int64(len(arMagic)); at < size; {
		name, length, err := arMember(deb, at)
		if err != nil {
			return nil, err
		}
		body := at + arHeader
		if length > size-body {
			return nil, fmt.Errorf("member %q ends behind the file", name)
		}
		if strings.HasPrefix(name, "data.tar") {
			return unpack(io.NewSectionReader(deb, body, length), path.Ext(name))
		}
		at = body + length + length%2
	}
	return nil, errors.New("not a .deb: no data.tar in it")
}

// arMember reads the member header at an offset: name[16] mtime[12] uid[6]
// gid[6] mode[8] size[10] "`\n".
func arMember(r io.ReaderAt, at int64) (name string, size int64, err error) {
	var h [arHeader]byte
	if _, err := r.ReadAt(h[:], at); err != nil {
		return "", 0, fmt.Errorf("ar header at byte %d is cut off", at)
	}
	size, err = strconv.ParseInt(strings.TrimSpace(string(h[48:58])), 10, 64)
	if string(h[58:]) != "`\n" || err != nil || size < 0 {
		return "", 0, fmt.Errorf("ar header at byte %d is damaged", at)
	}
	return strings.TrimSuffix(strings.TrimSpace(string(h[:16])), "/"), size, nil
}

// unpack undoes the compression that a file name ending stands for.
func unpack(r io.Reader, ext string) (io.ReadCloser, error) {
	// xz reads byte by byte: without a buffer it takes nine times as long.
	r = bufio.NewReaderSize(r, 1<<20)
	switch ext {
	case ".xz":
		x, err := xz.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("unpack data.tar.xz: %v", err)
		}
		return io.NopCloser(x), nil
	case ".zst":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("unpack data.tar.zst: %v", err)
		}
		return z.IOReadCloser(), nil
	case ".gz":
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("unpack data.tar.gz: %v", err)
		}
		return z, nil
	case ".tar":
		return io.NopCloser(r), nil
	}
	return nil, fmt.Errorf("data.tar%s: compression is not known", ext)
}
