package journal

import (
	"bytes"
	"fmt"
	"io"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/vfs"
)

// noteLost notes damage by which acknowledged changes are lost for certain. In
// a journal whose middle is not whole it may be that nobody was promised them:
// that is a repair.
func (j *Journal) noteLost(format string, args ...any) {
	if len(j.lost) < maxRepairs {
		j.lost = append(j.lost, fmt.Sprintf(format, args...))
	}
	j.repaired = true
}

// Lost is what Open had to give up; nothing when all is there.
func (j *Journal) Lost() []string { return j.lost }

// salvage applies what is whole of a snapshot, wherever it stands: its changes
// do not build on each other, but for a topic that is being deleted, which is
// made and deleted.
func (j *Journal) salvage(name string, b []byte) {
	if _, err := frame.CheckHeader(b, snapshotKind, version); err == nil {
		b = b[frame.HeaderSize:]
	}
	for len(b) > 0 {
		payload, rest, err := frame.Next(b)
		if err != nil {
			at := frame.Find(b)
			if at < 0 {
				return
			}
			b = b[at:]
			continue
		}
		b = rest
		if bytes.Equal(payload, end) {
			continue
		}
		if err := j.m.Apply(payload); err != nil {
			j.noteLost("%s holds a change that means nothing: %v", name, err)
		}
	}
}

// replayOlder replays a journal that others came after. All of it was durable
// by then, so whatever is damaged in it is lost, the end too.
func (j *Journal) replayOlder(gen uint64) error {
	name, cut, told := j.name("journal", gen), j.cut, len(j.repairs)
	_, err := j.replay(name)
	if j.cut > cut || len(j.repairs) > told {
		j.cut = cut
		j.noteLost("%s is damaged, and no snapshot behind it is whole", name)
		j.damaged = append(j.damaged, name)
	}
	return err
}

// sector is the most that an unreadable place takes with it, in bytes.
const sector = 4096

// readAround reads a file of which some places cannot be read. They are filled
// with what is no frame, and no header that was not written yet either.
func (j *Journal) readAround(name string, f vfs.File) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("read %s: %v", name, err)
	}
	b := make([]byte, size)
	bad := 0
	for at := 0; at < len(b); at += sector {
		part := b[at:min(len(b), at+sector)]
		if _, err := f.ReadAt(part, int64(at)); err != nil && err != io.EOF {
			for i := range part {
				part[i] = 0xff
			}
			bad++
		}
	}
	j.noteRepair("%s: %d places of %d bytes cannot be read", name, bad, sector)
	return b, nil
}
