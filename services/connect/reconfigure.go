package connect

import (
	"context"
	"errors"
	"reflect"
	"slices"
)

// slot is a connector that runs, or is to.
type slot struct {
	Instance
	box    *Box
	cancel context.CancelFunc
	ended  chan struct{} // closed when nothing of it runs any more
}

// prepare is for one of n connectors.
func (s *Service) prepare(i Instance, n int) (*slot, error) {
	b, err := newBox(&s.cfg, i, s.kafka.of(i.Name), memory(n))
	if err != nil {
		return nil, err
	}
	return &slot{Instance: i, box: b, ended: make(chan struct{})}, nil
}

func (s *slot) start(ctx context.Context) {
	ctx, s.cancel = context.WithCancel(ctx)
	go func() {
		defer close(s.ended)
		s.box.run(ctx, s.Connector)
		s.box.back.close()
	}()
}

// same says whether a connector need not be started anew.
func (i *Instance) same(other *Instance) bool {
	return i.Declared != nil && i.Name == other.Name && i.Protocol == other.Protocol && reflect.DeepEqual(i.Declared, other.Declared)
}

// Reconfigure has other connectors run: those whose declaration is what it was
// go on undisturbed, all others are stopped and the new ones started, which
// go on where one of their name was. An error says that nothing has changed.
func (s *Service) Reconfigure(instances []Instance) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	if s.ctx == nil || s.ctx.Err() != nil {
		return errors.New("connectors are not running")
	}
	next := make([]*slot, len(instances))
	var fresh []*slot
	for at, i := range instances {
		if going := slices.IndexFunc(s.slots, func(before *slot) bool { return before.same(&i) }); going >= 0 {
			next[at] = s.slots[going]
			continue
		}
		slot, err := s.prepare(i, len(instances))
		if err != nil {
			return err
		}
		next[at], fresh = slot, append(fresh, slot)
	}
	var old []*slot
	for _, before := range s.slots {
		if !slices.Contains(next, before) {
			before.cancel()
			old = append(old, before)
			continue
		}
		before.box.budget.resize(memory(len(instances)))
		before.box.queue.resize(memory(len(instances)))
	}
	for _, before := range old { // ports and spools are free after it
		<-before.ended
	}
	s.mu.Lock()
	s.slots, s.refused = next, nil
	s.mu.Unlock()
	for _, slot := range fresh {
		slot.start(s.ctx)
	}
	s.log.Info("connectors of the changed profile run", "started", len(fresh), "stopped", len(old), "undisturbed", len(next)-len(fresh))
	return nil
}

// Refuse tells in the status that a changed profile cannot be in force; the
// connectors go on as they are. nil takes it back.
func (s *Service) Refuse(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = why
}
