package store

import (
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	ds "github.com/ipfs/go-datastore"
	pebbleds "github.com/ipfs/go-ds-pebble"
	logging "github.com/ipfs/go-log/v2"
)

var logger = logging.Logger("pebble")

const (
	// DefaultCacheBytes bounds the cache of uncompressed blocks. A pin is some
	// 500 bytes in the store (its record, its CRDT delta, a few keys), so
	// 64 MiB hold the working set of 100,000 pins. ipfs-cluster's default is
	// 1 GiB, more than a small task has.
	DefaultCacheBytes = 64 << 20

	// DefaultMemTableBytes is the size at which recent writes move from memory
	// to a table. Up to memTables of them exist at a time: 4 × 16 MiB.
	DefaultMemTableBytes = 16 << 20

	memTables   = 4
	bloomBits   = 10 // 1 % false positives, as ipfs-cluster writes them
	maxOpenFile = 500
)

// Options size a store. The zero value means the defaults.
type Options struct {
	// CacheBytes bounds the block cache, in bytes.
	CacheBytes int64
	// MemTableBytes is the size of one memtable, in bytes; less than 4 GiB.
	MemTableBytes uint64
}

// Datastore is a go-datastore whose writes are durable when they return.
type Datastore interface {
	ds.Batching
	ds.PersistentDatastore
}

// Store is an open store. It is safe for concurrent use, also with Close: a request of another
// peer may still read when this one ends, and Pebble panics where this returns ErrClosed.
type Store struct {
	*pebbleds.Datastore
	life *life
}

// Open opens the store in the given folder, creating it (mode 0700) if it does
// not exist. Close it to release the folder.
func Open(path string, opts Options) (*Store, error) {
	d, err := open(path, opts, pebble.Sync)
	if err != nil {
		return nil, err
	}
	return &Store{d, &life{}}, nil
}

func open(path string, opts Options, write *pebble.WriteOptions) (*pebbleds.Datastore, error) {
	if opts.CacheBytes == 0 {
		opts.CacheBytes = DefaultCacheBytes
	}
	if opts.MemTableBytes == 0 {
		opts.MemTableBytes = DefaultMemTableBytes
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("create the pinset's folder: %w", err)
	}
	events := pebble.MakeLoggingEventListener(logger)
	po := &pebble.Options{
		Logger:                      logger,
		EventListener:               &events,
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                opts.MemTableBytes,
		MemTableStopWritesThreshold: memTables,
		MaxOpenFiles:                maxOpenFile,
	}
	for i := range po.Levels {
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(bloomBits)
		po.Levels[i].FilterType = pebble.TableFilter
	}
	store, err := pebbleds.NewDatastore(path,
		pebbleds.WithPebbleOpts(po),
		pebbleds.WithCacheSize(opts.CacheBytes),
		pebbleds.WithPebbleWriteOptions(write),
	)
	if err != nil {
		return nil, fmt.Errorf("open the pinset in %s: %w", path, err)
	}
	return store, nil
}
