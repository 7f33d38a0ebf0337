package efs

// Stat describes a store at one moment.
type Stat struct {
	Blocks   int64  // that the index knows
	Bytes    int64  // of all files and directories, as DiskUsage
	Writing  int    // writes under way: none of them is acknowledged
	Removing int    // deletes that are acknowledged and not done
	Damaged  uint64 // reads since the store was opened whose bytes did not hash to the block's name
}

// Stat asks the file system nothing.
func (d *Datastore) Stat() (Stat, error) {
	if err := d.enter(); err != nil {
		return Stat{}, err
	}
	defer d.leave()
	s := Stat{Bytes: max(d.usage.total(), 0), Writing: len(d.writes), Removing: len(d.removal.window), Damaged: d.damaged.Load()}
	for _, shard := range d.allShards() {
		shard.mu.RLock()
		s.Blocks += int64(len(shard.sums) + len(shard.others))
		shard.mu.RUnlock()
	}
	return s, nil
}
