package replicator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/site"
)

// GroupOffset is what a consumer group of the box has committed, and what
// that is at the destination.
type GroupOffset struct {
	Group string `json:"group"`
	Translation
	State string `json:"state"`
}

// Translation is an offset of the source and where it lies at the destination.
type Translation struct {
	Rule      string `json:"rule,omitempty"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	To        string `json:"to"`
	// Dest is where a reader at the destination goes on, -1 if that is not
	// known any more. If not Exact, it sees some records again.
	Dest  int64 `json:"dest"`
	Exact bool  `json:"exact"`
}

// States of a GroupOffset.
const (
	groupWaiting   = "waits for the destination"
	groupCommitted = "committed"
	groupAhead     = "the destination is as far or further"
	groupActive    = "active at the destination"
	groupUnknown   = "older than what is remembered"
)

// groupAgain is when a group that has members is tried again although nothing
// has moved.
const groupAgain = time.Minute

type groupKey struct {
	group string
	from  key
}

type groupState struct {
	GroupOffset
	tried time.Time
}

// carryGroups has the groups of the box go on at the destination from where
// they are here. It runs beside the link's loop, which it never holds up.
func (l *link) carryGroups(ctx context.Context) {
	l.mu.Lock()
	begun, dst := l.promise != "", l.dst
	l.mu.Unlock()
	if len(l.cfg.Groups) == 0 || !begun || time.Since(l.groupsAt) < l.pace.groups {
		return
	}
	l.groupsAt = time.Now()
	ctx, cancel := context.WithTimeout(ctx, adminWait)
	defer cancel()
	here, err := l.groupsHere(ctx)
	if err != nil {
		l.log.Warn("offsets of groups are not translated", "error", err)
		return
	}
	for group, moved := range l.movedGroups(here) {
		if err := l.commitGroup(ctx, kadm.NewClient(dst), group, moved); err != nil {
			l.note("group "+group, err.Error())
			l.log.Warn("offsets of a group are not committed at the destination", "group", group, "error", err)
		}
	}
}

// groupsHere are the offsets that the link's groups have committed on the box.
func (l *link) groupsHere(ctx context.Context) (kadm.FetchOffsetsResponses, error) {
	listed, err := l.srcAdm.ListGroups(ctx)
	if err != nil {
		return nil, fmt.Errorf("list groups of the box: %w", err)
	}
	names := slices.DeleteFunc(listed.Groups(), func(g string) bool {
		return strings.HasPrefix(g, groupPrefix) || !slices.ContainsFunc(l.cfg.Groups, func(want string) bool { return site.Matches(want, g) })
	})
	if len(names) == 0 {
		return nil, nil
	}
	return l.srcAdm.FetchManyOffsets(ctx, names...), nil
}

// movedGroups translates, and returns by group what the destination has to
// be told.
func (l *link) movedGroups(here kadm.FetchOffsetsResponses) map[string][]groupKey {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.groups, func(k groupKey, _ groupState) bool { // tools make groups with names by chance
		_, ok := here[k.group]
		return !ok || l.parts[k.from] == nil
	})
	moved := map[string][]groupKey{}
	for group, got := range here {
		for k, p := range l.parts {
			o, ok := got.Fetched.Lookup(k.topic, k.num)
			if !ok || o.Err != nil || o.At < 0 || !k.lane.ordered() {
				continue
			}
			at := groupKey{group, k}
			before := l.groups[at]
			now := GroupOffset{Group: group, Translation: p.translation(o.At), State: groupUnknown}
			if now.Dest >= 0 {
				now.State = groupWaiting
			}
			again := before.State == groupWaiting || before.State == groupActive && time.Since(before.tried) >= groupAgain
			if before.Translation == now.Translation && !again {
				continue
			}
			l.groups[at] = groupState{now, time.Now()}
			if now.Dest >= 0 {
				moved[group] = append(moved[group], at)
			}
		}
	}
	return moved
}

// ordered is true where offsets at both ends have the same order.
func (n *lane) ordered() bool { return !n.rule.Windowed() && n.newest == nil && n.first == nil }

func (p *partition) translation(offset int64) Translation {
	t := Translation{Rule: p.lane.name, Topic: p.topic, Partition: p.num, Offset: offset, To: p.to}
	t.Dest, t.Exact = p.pairs.translate(offset)
	return t
}

// commitGroup commits what is further than what the destination has. A
// commit by nobody's member is refused by the destination itself while the
// group has members there, so that no offset moves under a consumer.
func (l *link) commitGroup(ctx context.Context, adm *kadm.Client, group string, moved []groupKey) error {
	var topics []string
	for _, k := range moved {
		topics = append(topics, l.groupAt(k).To)
	}
	slices.Sort(topics)
	have, err := adm.FetchOffsetsForTopics(ctx, group, slices.Compact(topics)...)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return fmt.Errorf("read offsets of group %s at the destination: %w", group, err)
	}
	var commit kadm.Offsets
	due := map[groupKey]bool{}
	for _, k := range moved {
		now := l.groupAt(k)
		if o, ok := have.Lookup(now.To, k.from.num); ok && o.Err == nil && o.At >= now.Dest {
			l.setGroup(k, groupAhead)
			continue
		}
		due[k] = true
		commit.Add(kadm.Offset{Topic: now.To, Partition: k.from.num, At: now.Dest, LeaderEpoch: -1})
	}
	if len(commit) == 0 {
		return nil
	}
	got, err := adm.CommitOffsets(ctx, group, commit)
	if err != nil {
		return fmt.Errorf("commit offsets of group %s at the destination: %w", group, err)
	}
	var failed error
	for k := range due {
		o, ok := got.Lookup(l.groupAt(k).To, k.from.num)
		switch {
		case !ok:
		case o.Err == nil:
			l.setGroup(k, groupCommitted)
		case errors.Is(o.Err, kerr.UnknownMemberID), errors.Is(o.Err, kerr.RebalanceInProgress), errors.Is(o.Err, kerr.IllegalGeneration), errors.Is(o.Err, kerr.StaleMemberEpoch):
			l.setGroup(k, groupActive)
		default:
			failed = fmt.Errorf("commit offset of group %s at the destination: %s/%d: %w", group, o.Topic, o.Partition, o.Err)
		}
	}
	return failed
}

func (l *link) groupAt(k groupKey) groupState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.groups[k]
}

func (l *link) setGroup(k groupKey, state string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.groups[k]
	s.State = state
	l.groups[k] = s
	delete(l.notes, "group "+k.group)
}

// groupOffsets is what is known of groups, under l.mu.
func (l *link) groupOffsets() (all []GroupOffset) {
	for _, s := range l.groups {
		all = append(all, s.GroupOffset)
	}
	slices.SortFunc(all, func(a, b GroupOffset) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.To, b.To), cmp.Compare(a.Partition, b.Partition))
	})
	return all
}

// translate answers for each way of a partition.
func (l *link) translate(topic string, num int32, offset int64) (all []Translation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, p := range l.parts {
		if k.topic == topic && k.num == num && k.lane.ordered() {
			all = append(all, p.translation(offset))
		}
	}
	slices.SortFunc(all, func(a, b Translation) int { return cmp.Compare(a.To, b.To) })
	return all
}
