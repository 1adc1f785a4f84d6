package engine

// SetPublishesAtOnce makes batches smaller than they are, so that a few symbols are too many for one.
func (e *Engine) SetPublishesAtOnce(n int) { e.publishesAtOnce = n }

// SetReadsAtOnce makes the parts of a read-back smaller than they are.
func (e *Engine) SetReadsAtOnce(n int) { e.readsAtOnce = n }

// SetBeatsAtOnce is what a longer way to the store does.
func (e *Engine) SetBeatsAtOnce(n int) { e.beatsAtOnce = n }
