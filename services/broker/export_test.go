package broker

// DropOnce looks once whether old records must go.
func (b *Broker) DropOnce() { b.dropOnce(b.parts.catalog) }

// LossID names the last loss of the state.
func (b *Broker) LossID() string {
	l, _ := b.parts.meta.Loss()
	return l.ID
}
