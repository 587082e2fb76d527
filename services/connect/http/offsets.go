package http

import (
	"context"
	"net/http"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// commitGiven commits what was given.
func (k *consumer) commitGiven(ctx context.Context) error {
	var all kadm.Offsets
	for topic, ps := range k.given {
		for p, o := range ps {
			all.AddOffset(topic, p, o.Offset, o.Epoch)
		}
	}
	return k.commitAll(ctx, all)
}

func (k *consumer) commitAll(ctx context.Context, all kadm.Offsets) error {
	if len(all) == 0 {
		return nil
	}
	if len(k.assigned) > 0 {
		return k.s.adm.CommitAllOffsets(ctx, k.group, all)
	}
	offsets := map[string]map[int32]kgo.EpochOffset{}
	all.Each(func(o kadm.Offset) {
		if offsets[o.Topic] == nil {
			offsets[o.Topic] = map[int32]kgo.EpochOffset{}
		}
		offsets[o.Topic][o.Partition] = kgo.EpochOffset{Epoch: o.LeaderEpoch, Offset: o.At}
	})
	var failed error
	k.cl.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, _ *kmsg.OffsetCommitResponse, err error) {
		failed = err
	})
	return failed
}

func (k *consumer) commit(w http.ResponseWriter, r *http.Request, c *caller) error {
	var in struct {
		Offsets []placeOffset `json:"offsets"`
	}
	if err := k.request(w, r, &in); err != nil {
		return err
	}
	if k.cl == nil {
		return bad(422, "the consumer has no subscription and no assignment")
	}
	if len(in.Offsets) == 0 {
		if err := k.commitGiven(r.Context()); err != nil {
			return err
		}
		w.WriteHeader(http.StatusOK)
		return nil
	}
	var all kadm.Offsets
	for _, o := range in.Offsets {
		if !c.may(o.Topic) {
			return errNoTopic
		}
		all.AddOffset(o.Topic, o.Partition, o.Offset+1, -1) // the REST Proxy is given the last record that was read
	}
	if err := k.commitAll(r.Context(), all); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (k *consumer) committed(w http.ResponseWriter, r *http.Request, c *caller) error {
	var in struct {
		Partitions []place `json:"partitions"`
	}
	if err := k.request(w, r, &in); err != nil {
		return err
	}
	got, err := k.s.adm.FetchOffsets(r.Context(), k.group)
	if err != nil {
		return err
	}
	out := []placeOffset{}
	for _, p := range in.Partitions {
		if !c.may(p.Topic) {
			return errNoTopic
		}
		if o, ok := got.Lookup(p.Topic, p.Partition); ok && o.At >= 0 {
			out = append(out, placeOffset{place: p, Offset: o.At})
		}
	}
	answer(w, r, http.StatusOK, map[string]any{"offsets": out})
	return nil
}

func (k *consumer) seek(w http.ResponseWriter, r *http.Request, _ *caller) error {
	var in struct {
		Offsets []placeOffset `json:"offsets"`
	}
	if err := k.request(w, r, &in); err != nil {
		return err
	}
	to := map[place]int64{}
	for _, o := range in.Offsets {
		to[o.place] = o.Offset
	}
	return k.seekTo(w, to)
}

func (k *consumer) seekBeginning(w http.ResponseWriter, r *http.Request, c *caller) error {
	return k.seekListed(w, r, c, k.s.adm.ListStartOffsets)
}

func (k *consumer) seekEnd(w http.ResponseWriter, r *http.Request, c *caller) error {
	return k.seekListed(w, r, c, k.s.adm.ListEndOffsets)
}

func (k *consumer) seekListed(w http.ResponseWriter, r *http.Request, c *caller, ask func(context.Context, ...string) (kadm.ListedOffsets, error)) error {
	var in struct {
		Partitions []place `json:"partitions"`
	}
	if err := k.request(w, r, &in); err != nil {
		return err
	}
	to := map[place]int64{}
	for _, p := range in.Partitions {
		if !c.may(p.Topic) {
			return errNoTopic
		}
		got, err := ask(r.Context(), p.Topic)
		if err != nil {
			return err
		}
		o, ok := got.Lookup(p.Topic, p.Partition)
		if !ok {
			return &problem{http.StatusNotFound, 40402, "Partition not found."}
		}
		to[p] = o.Offset
	}
	return k.seekTo(w, to)
}

// seekTo goes on at other offsets; what was fetched before is forgotten.
func (k *consumer) seekTo(w http.ResponseWriter, to map[place]int64) error {
	if k.cl == nil {
		return bad(422, "the consumer has no subscription and no assignment")
	}
	set := map[string]map[int32]kgo.EpochOffset{}
	for p, at := range to {
		if set[p.Topic] == nil {
			set[p.Topic] = map[int32]kgo.EpochOffset{}
		}
		set[p.Topic][p.Partition] = kgo.EpochOffset{Epoch: -1, Offset: at}
	}
	kept := k.pending[:0]
	for _, r := range k.pending {
		if _, moved := to[place{r.Topic, r.Partition}]; !moved {
			kept = append(kept, r)
		}
	}
	k.pending = kept
	k.cl.SetOffsets(set)
	return done(w)
}
