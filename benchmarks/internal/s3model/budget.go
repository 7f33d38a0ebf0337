package s3model

import (
	"errors"
	"fmt"
	"sync"
)

// ErrBudget is what a request that would overspend fails with.
var ErrBudget = errors.New("budget reached")

// Budget bounds what a run spends, in USD. What a request costs is reserved before it is sent, so the bound holds however many are
// under way. The nil Budget allows everything. Safe for concurrent use.
type Budget struct {
	mu         sync.Mutex
	max, spent float64
	reached    bool
}

// NewBudget returns a budget of which some is spent already.
func NewBudget(max, spent float64) *Budget { return &Budget{max: max, spent: spent} }

func (b *Budget) reserve(usd float64) error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.reached || b.spent+usd > b.max {
		b.reached = true // for good: a cheaper request that still fits would let a store limp on
		return fmt.Errorf("%w: %.6f of %.2f USD are spent, and the next request costs %.8f", ErrBudget, b.spent, b.max, usd)
	}
	b.spent += usd
	return nil
}

// Reserve takes note of money that is about to be spent elsewhere, or returns ErrBudget.
func (b *Budget) Reserve(usd float64) error { return b.reserve(usd) }

// Spent is what was reserved so far.
func (b *Budget) Spent() float64 {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.spent
}

// Reached reports whether a request was refused.
func (b *Budget) Reached() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reached
}
