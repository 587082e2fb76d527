package connect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// How many answered commands are known by their id, and the bytes of their
// answers.
const (
	rememberIDs   = 1000
	rememberBytes = 4 << 20
)

// answerRecord is what the answer topic gets.
type answerRecord struct {
	ID    string `json:"id"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
	Value any    `json:"value,omitempty"`
	Time  string `json:"time"`
}

func (a *account) group() string { return ownPrefix + a.cfg.Site + "." + a.name }

// commands reads the command topic as a group of its own, so that a restart
// goes on behind the last answer, and gives one command after the other.
func (a *account) commands(ctx context.Context, b *Box) error {
	for _, topic := range []string{b.commands.Topic, b.commands.Answers} {
		if err := a.ensure(ctx, topic, nil); err != nil {
			return err
		}
	}
	if err := a.beginAtEnd(ctx, b.commands.Topic); err != nil {
		return err
	}
	if err := a.recall(ctx, b.commands.Answers); err != nil {
		return err
	}
	cl, err := b.Client(append(reading(), kgo.ConsumeTopics(b.commands.Topic), kgo.ConsumerGroup(a.group()), kgo.InstanceID(a.name), kgo.DisableAutoCommit())...)
	if err != nil {
		return err
	}
	defer cl.Close()
	b.log.Debug("commands are read", "topic", b.commands.Topic)
	for {
		fs := cl.PollRecords(ctx, 100)
		if ctx.Err() != nil {
			return nil
		}
		var failed error
		fs.EachError(func(_ string, _ int32, err error) { failed = errors.Join(failed, b.unread(cl, err)) })
		if failed != nil {
			return fmt.Errorf("read %s: %w", b.commands.Topic, failed)
		}
		for _, r := range fs.Records() {
			if err := a.command(ctx, b, r); err != nil {
				return err
			}
			if err := cl.CommitRecords(ctx, r); err != nil {
				return fmt.Errorf("commit offset of %s: %w", b.commands.Topic, err)
			}
		}
	}
}

// beginAtEnd commits the end of the topic where the group has no offset: old
// commands are not carried out by a connector that is new.
func (a *account) beginAtEnd(ctx context.Context, topic string) error {
	ctx, cancel := context.WithTimeout(ctx, adminWait)
	defer cancel()
	adm := kadm.NewClient(a.cl)
	have, err := adm.FetchOffsets(ctx, a.group())
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return fmt.Errorf("read offsets of group %s: %w", a.group(), err)
	}
	ends, err := adm.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("list offsets of %s: %w", topic, err)
	}
	var begin kadm.Offsets
	ends.Each(func(o kadm.ListedOffset) {
		if at, known := have.Lookup(topic, o.Partition); !known || at.At < 0 {
			begin.AddOffset(topic, o.Partition, o.Offset, -1)
		}
	})
	if len(begin) == 0 {
		return nil
	}
	if err := adm.CommitAllOffsets(ctx, a.group(), begin); err != nil {
		return fmt.Errorf("commit offsets of group %s: %w", a.group(), err)
	}
	return nil
}

// recall learns the newest answers: a command that was answered just before a
// crash comes again, and is not carried out twice.
func (a *account) recall(ctx context.Context, topic string) error {
	if len(a.answered.by) > 0 {
		return nil
	}
	return a.tail(ctx, topic, rememberIDs, func(r *kgo.Record) {
		var v answerRecord
		if json.Unmarshal(r.Value, &v) == nil {
			a.answered.add(v.ID, r.Value)
		}
	})
}

// command has one command carried out and its answer stored.
func (a *account) command(ctx context.Context, b *Box, r *kgo.Record) error {
	done := a.answered
	cmd, err := parseCommand(r)
	answer, known := done.of(cmd.ID)
	switch {
	case err != nil:
		b.Dead("command: "+err.Error(), r.Value, r.Topic)
		answer = b.answer(cmd, err, nil)
	case known:
	default:
		if answer, err = b.carryOut(ctx, cmd); err != nil {
			return err
		}
	}
	done.add(cmd.ID, answer)
	stored := make(chan error, 1)
	rec := &kgo.Record{Topic: b.commands.Answers, Key: r.Key, Value: answer, Timestamp: b.cfg.now()}
	a.produce(ctx, rec, func(err error) { stored <- err })
	select {
	case err = <-stored:
	case <-ctx.Done():
		return ctx.Err()
	}
	if permanent(err) {
		// The command was carried out: to read it again would only have it
		// refused again, and all behind it wait.
		b.log.Error("the broker refuses the answer to a command", "id", cmd.ID, "topic", b.commands.Answers, "error", err)
		b.Dead("answer: "+err.Error(), answer, b.commands.Answers)
		err = nil
	}
	if err != nil {
		return fmt.Errorf("write answer to %s: %w", b.commands.Answers, err)
	}
	b.state.commanded()
	return nil
}

// carryOut gives a command to the connector and waits for its answer; an
// error means that ctx has ended.
func (b *Box) carryOut(ctx context.Context, cmd Command) ([]byte, error) {
	answers := make(chan []byte, 1)
	var once sync.Once
	cmd.answer = func(err error, value any) {
		once.Do(func() { answers <- b.answer(cmd, err, value) })
	}
	var old <-chan time.Time // nil: never
	if b.maxAge > 0 {
		old = time.After(max(0, b.maxAge-b.cfg.now().Sub(cmd.Time)))
	}
	select {
	case <-old: // also where the device is away for long
		return b.answer(cmd, fmt.Errorf("the command is older than %s", b.maxAge), nil), nil
	default:
	}
	over := b.runOver()
	for given := false; !given; {
		select {
		case b.incoming <- cmd:
			given = true
		case <-over:
			over = b.runOver()
		case <-old:
			return b.answer(cmd, fmt.Errorf("the command is older than %s", b.maxAge), nil), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	select {
	case a := <-answers:
		return a, nil
	case <-over:
		cmd.answer(errors.New("the device was lost before it answered, the command may have been carried out"), nil)
		return <-answers, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (b *Box) answer(cmd Command, err error, value any) []byte {
	out := answerRecord{ID: cmd.ID, OK: err == nil, Value: value, Time: b.cfg.now().UTC().Format(timeFormat)}
	if err != nil {
		out.Error = err.Error()
	}
	text, err := json.Marshal(out)
	if err != nil { // a value that JSON does not have
		out.Value = fmt.Sprint(value)
		text, _ = json.Marshal(out)
	}
	return text
}

// parseCommand reads {"id","point","value", ...}.
func parseCommand(r *kgo.Record) (Command, error) {
	var c struct {
		ID    string `json:"id"`
		Point string `json:"point"`
		Value any    `json:"value"`
	}
	dec := json.NewDecoder(bytes.NewReader(r.Value))
	dec.UseNumber()
	err := dec.Decode(&c)
	if err == nil && dec.More() {
		err = errors.New("more than one JSON value")
	}
	cmd := Command{ID: c.ID, Point: c.Point, Value: c.Value, JSON: r.Value, Key: r.Key, Time: r.Timestamp}
	if err != nil {
		return cmd, fmt.Errorf("want a JSON object such as {\"id\":\"1\",\"point\":\"p\",\"value\":2}: %w", err)
	}
	return cmd, nil
}

// answered remembers answers by the command's id.
type answered struct {
	by    map[string][]byte
	ring  []string
	bytes int
}

func newAnswered() *answered { return &answered{by: map[string][]byte{}} }

func (a *answered) of(id string) ([]byte, bool) {
	text, ok := a.by[id]
	return text, ok && id != ""
}

// add forgets the oldest where there are too many; the newest always stays.
func (a *answered) add(id string, text []byte) {
	if id == "" {
		return
	}
	if _, known := a.by[id]; !known {
		a.ring = append(a.ring, id)
	}
	a.bytes += len(text) - len(a.by[id])
	a.by[id] = text
	for len(a.ring) > 1 && (len(a.ring) > rememberIDs || a.bytes > rememberBytes) {
		a.bytes -= len(a.by[a.ring[0]])
		delete(a.by, a.ring[0])
		a.ring = a.ring[1:]
	}
}

func (s *state) commanded() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.s.Commands++
}
