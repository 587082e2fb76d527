package s7

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The telegrams are ours and not the library's, whose reads of many items do
// not check the lengths that a PLC gives, and whose writes of bits and lists
// of blocks print to the standard output. There is no public specification;
// what is here is what Snap7 and Wireshark's dissector agree on.

const (
	headSize  = 10 // of a job; of its answer 12
	ackSize   = 12
	isoSize   = 7 // TPKT (RFC 1006) and COTP data header before it
	readVar   = 4
	writeVar  = 5
	maxItems  = 20 // of one job
	itemSize  = 12 // of a request
	codeOK    = 0xff
	asBits    = 1 // transport sizes of requests
	asBytes   = 2
	dataBits  = 3 // of data
	dataBytes = 4
)

// item is a piece of a PLC's memory: bytes, or one bit.
type item struct {
	area  byte
	db    int
	start int
	size  int // bytes; of a bit 1
	bit   int // -1: bytes
}

// result is what a PLC says of an item.
type result struct {
	code byte // codeOK, or why not
	data []byte
}

// job wraps the parameters and data of a request.
func job(ref uint16, params, data []byte) []byte {
	n := isoSize + headSize + len(params) + len(data)
	b := append(make([]byte, 0, n), 3, 0, byte(n>>8), byte(n), 2, 0xf0, 0x80, 0x32, 1, 0, 0)
	b = binary.BigEndian.AppendUint16(b, ref)
	b = binary.BigEndian.AppendUint16(b, uint16(len(params)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return append(append(b, params...), data...)
}

func readJob(ref uint16, items []item) []byte {
	params := []byte{readVar, byte(len(items))}
	for _, i := range items {
		params = append(params, i.request()...)
	}
	return job(ref, params, nil)
}

func writeJob(ref uint16, i item, data []byte) []byte {
	head := []byte{0, dataBytes, byte(len(data) >> 5), byte(len(data) << 3)} // length in bits
	if i.bit >= 0 {
		head = []byte{0, dataBits, 0, 1}
	}
	return job(ref, append([]byte{writeVar, 1}, i.request()...), append(head, data...))
}

func (i item) request() []byte {
	size, at := byte(asBytes), i.start*8
	if i.bit >= 0 {
		size, at = asBits, at+i.bit
	}
	return []byte{
		0x12, 10, 0x10, size, byte(i.size >> 8), byte(i.size), byte(i.db >> 8), byte(i.db),
		i.area, byte(at >> 16), byte(at >> 8), byte(at),
	}
}

// jobError is a job that the PLC refuses as a whole.
type jobError uint16

func (e jobError) Error() string {
	switch e {
	case 0x8104:
		return "the PLC does not allow this function (0x8104): permit access with PUT/GET in its protection settings"
	case 0x8500:
		return "the PLC finds the job too long (0x8500)"
	}
	return fmt.Sprintf("the PLC refuses the job with error 0x%04x", uint16(e))
}

var errMalformed = errors.New("the answer is malformed")

// answerOf checks an answer's head and returns its parameters and data.
func answerOf(b []byte, ref uint16, function byte, items int) (data []byte, err error) {
	if len(b) < isoSize+ackSize || b[isoSize] != 0x32 {
		return nil, errMalformed
	}
	b = b[isoSize:]
	if b[1] != 2 && b[1] != 3 { // acknowledgement without and with data
		return nil, errMalformed
	}
	if got := binary.BigEndian.Uint16(b[4:]); got != ref {
		return nil, fmt.Errorf("the answer is to job %d, not to %d", got, ref)
	}
	if e := binary.BigEndian.Uint16(b[10:]); e != 0 {
		return nil, jobError(e)
	}
	params, size := int(binary.BigEndian.Uint16(b[6:])), int(binary.BigEndian.Uint16(b[8:]))
	if params != 2 || len(b) < ackSize+params+size || b[ackSize] != function || int(b[ackSize+1]) != items {
		return nil, errMalformed
	}
	return b[ackSize+params : ackSize+params+size], nil
}

// readAnswer returns a result for every item that was asked for, each with
// exactly its bytes, unless its code says why not.
func readAnswer(b []byte, ref uint16, items []item) ([]result, error) {
	data, err := answerOf(b, ref, readVar, len(items))
	if err != nil {
		return nil, err
	}
	results := make([]result, len(items))
	for n, i := range items {
		if len(data) == 1 && data[0] != codeOK { // the last may be cut to its code
			data = append(data, 0, 0, 0)
		}
		if len(data) < 4 {
			return nil, errMalformed
		}
		results[n].code = data[0]
		size := int(binary.BigEndian.Uint16(data[2:]))
		if data[1] == dataBits || data[1] == dataBytes || data[1] == 5 { // the length is in bits
			size = (size + 7) / 8
		}
		data = data[4:]
		if results[n].code != codeOK {
			continue // whatever length it gives, nothing follows
		}
		if size != i.size || size > len(data) {
			return nil, errMalformed
		}
		results[n].data = data[:size]
		data = data[min(size+size%2, len(data)):]
	}
	return results, nil
}

// writeAnswer is nil when the PLC has taken the item.
func writeAnswer(b []byte, ref uint16) error {
	data, err := answerOf(b, ref, writeVar, 1)
	if err != nil {
		return err
	}
	if len(data) < 1 {
		return errMalformed
	}
	return itemError(data[0])
}

// itemError says what a PLC means with the code of an item.
func itemError(code byte) error {
	switch code {
	case codeOK:
		return nil
	case 3:
		return errors.New("access is not allowed (3)")
	case 5:
		return errors.New("the address is beyond the end (5); a block with optimised access cannot be read")
	case 6, 7:
		return fmt.Errorf("the type does not suit the address (%d)", code)
	case 10:
		return errors.New("there is no such block (10)")
	}
	return fmt.Errorf("the PLC refuses with code %d", code)
}
