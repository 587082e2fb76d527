package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The wire format is that of the NBD specification (doc/proto.md of the
// NetworkBlockDevice project): fixed newstyle negotiation, simple replies,
// big-endian numbers.
const (
	magicServer  = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption  = 0x49484156454f5054 // "IHAVEOPT"
	magicReply   = 0x0003e889045565a9
	magicRequest = 0x25609513
	magicSimple  = 0x67446698

	flagFixedNewstyle = 1 << 0 // handshake, both ways
	flagNoZeroes      = 1 << 1

	optExportName = 1
	optAbort      = 2
	optInfo       = 6
	optGo         = 7

	repAck      = 1
	repInfo     = 3
	repErrUnsup = 1<<31 + 1
	repErrBad   = 1<<31 + 3

	infoExport    = 0
	infoBlockSize = 3

	flagHasFlags  = 1 << 0 // transmission
	flagSendFlush = 1 << 2
	flagSendFUA   = 1 << 3

	cmdRead  = 0
	cmdWrite = 1
	cmdDisc  = 2
	cmdFlush = 3

	cmdFlagFUA = 1 << 0

	errIO    = 5
	errInval = 22
)

// transmissionFlags is what every export of ours can do.
const transmissionFlags = flagHasFlags | flagSendFlush | flagSendFUA

// maxPayload bounds one request, in bytes; it is the limit that clients
// assume unless told otherwise.
const maxPayload = 32 << 20

// maxOption bounds the data of one option, in bytes. Names may have 4096.
const maxOption = 8 << 10

const requestSize = 28

// request is a parsed request header.
type request struct {
	flags  uint16
	kind   uint16
	cookie uint64
	offset uint64
	length uint32
}

// parseRequest reads a request header. The error means that the stream cannot
// be followed any further.
func parseRequest(b []byte) (request, error) {
	if len(b) < requestSize || binary.BigEndian.Uint32(b) != magicRequest {
		return request{}, errors.New("parse request: wrong magic")
	}
	r := request{
		flags:  binary.BigEndian.Uint16(b[4:]),
		kind:   binary.BigEndian.Uint16(b[6:]),
		cookie: binary.BigEndian.Uint64(b[8:]),
		offset: binary.BigEndian.Uint64(b[16:]),
		length: binary.BigEndian.Uint32(b[24:]),
	}
	if r.kind == cmdWrite && r.length > maxPayload {
		return request{}, fmt.Errorf("parse request: payload of %d bytes is over %d", r.length, maxPayload)
	}
	return r, nil
}

// valid says whether a read or write lies in a disk of that size.
func (r request) valid(size int64) bool {
	end := r.offset + uint64(r.length)
	return end >= r.offset && end <= uint64(size) && r.length > 0 && r.length <= maxPayload &&
		r.offset%SectorSize == 0 && r.length%SectorSize == 0
}

func simpleReply(cookie uint64, errno uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, magicSimple)
	b = binary.BigEndian.AppendUint32(b, errno)
	return binary.BigEndian.AppendUint64(b, cookie)
}

// errDone ends a negotiation that the client does not want to go on with.
var errDone = errors.New("client ended the negotiation")

// negotiate speaks the newstyle handshake until transmission begins. Every
// export name is this one disk.
func negotiate(rw io.ReadWriter, size int64) error {
	hello := binary.BigEndian.AppendUint64(nil, magicServer)
	hello = binary.BigEndian.AppendUint64(hello, magicOption)
	hello = binary.BigEndian.AppendUint16(hello, flagFixedNewstyle|flagNoZeroes)
	if _, err := rw.Write(hello); err != nil {
		return err
	}
	var flags [4]byte
	if _, err := io.ReadFull(rw, flags[:]); err != nil {
		return err
	}
	clientFlags := binary.BigEndian.Uint32(flags[:])
	if clientFlags&flagFixedNewstyle == 0 {
		return errors.New("client does not speak fixed newstyle")
	}
	for {
		option, data, err := readOption(rw)
		if err != nil {
			return err
		}
		switch option {
		case optExportName:
			reply := exportInfo(size)
			if clientFlags&flagNoZeroes == 0 {
				reply = append(reply, make([]byte, 124)...)
			}
			_, err := rw.Write(reply)
			return err
		case optAbort:
			writeOptionReply(rw, option, repAck, nil)
			return errDone
		case optInfo, optGo:
			done, err := answerInfo(rw, option, data, size)
			if done || err != nil {
				return err
			}
		default:
			if err := writeOptionReply(rw, option, repErrUnsup, nil); err != nil {
				return err
			}
		}
	}
}

func readOption(r io.Reader) (uint32, []byte, error) {
	var head [16]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	if binary.BigEndian.Uint64(head[:]) != magicOption {
		return 0, nil, errors.New("read option: wrong magic")
	}
	length := binary.BigEndian.Uint32(head[12:])
	if length > maxOption {
		return 0, nil, fmt.Errorf("read option: %d bytes of data are over %d", length, maxOption)
	}
	data := make([]byte, length)
	_, err := io.ReadFull(r, data)
	return binary.BigEndian.Uint32(head[8:]), data, err
}

func writeOptionReply(w io.Writer, option, kind uint32, data []byte) error {
	b := binary.BigEndian.AppendUint64(nil, magicReply)
	b = binary.BigEndian.AppendUint32(b, option)
	b = binary.BigEndian.AppendUint32(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	_, err := w.Write(append(b, data...))
	return err
}

// exportInfo is the size and flags as both EXPORT_NAME and NBD_INFO_EXPORT
// carry them.
func exportInfo(size int64) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(size))
	return binary.BigEndian.AppendUint16(b, transmissionFlags)
}

// answerInfo answers INFO and GO; done means that transmission begins. Their
// data is a name (length, bytes) and a list of information types, which we
// need not read: we tell all that we know.
func answerInfo(w io.Writer, option uint32, data []byte, size int64) (done bool, err error) {
	if len(data) < 6 || uint64(binary.BigEndian.Uint32(data))+6 > uint64(len(data)) {
		return false, writeOptionReply(w, option, repErrBad, nil)
	}
	export := append([]byte{0, infoExport}, exportInfo(size)...)
	blocks := []byte{0, infoBlockSize}
	for _, n := range []uint32{SectorSize, 4096, maxPayload} { // minimum, preferred, maximum
		blocks = binary.BigEndian.AppendUint32(blocks, n)
	}
	for _, info := range [][]byte{export, blocks} {
		if err := writeOptionReply(w, option, repInfo, info); err != nil {
			return false, err
		}
	}
	return option == optGo, writeOptionReply(w, option, repAck, nil)
}
