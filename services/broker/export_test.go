package broker

// DropOnce looks once whether old records must go.
func (b *Broker) DropOnce() { b.dropOnce(b.parts.catalog) }
