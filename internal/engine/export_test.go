package engine

// SetPublishesAtOnce makes batches smaller than they are, so that a few symbols are too many for one.
func (e *Engine) SetPublishesAtOnce(n int) { e.publishesAtOnce = n }
