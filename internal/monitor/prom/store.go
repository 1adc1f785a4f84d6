package prom

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"

	"quantumharvest/internal/monitor/folder"
)

// storeName is the name of the time series database in the data folder, blockName what a damaged block of it is called.
const (
	storeName = "tsdb"
	blockName = "tsdb-block"
)

// store is the time series database with what the API wants to know of it.
type store struct {
	db       *tsdb.DB
	dir      string
	stats    *tsdb.DBStats
	registry *prometheus.Registry
}

// openStore opens the database. One that cannot be read is set aside and begun anew: monitoring that does not start is
// worse than monitoring without a past. What has another cause than damage is an error.
func openStore(o Options) (*store, error) {
	if err := checkBlocks(o); err != nil {
		return nil, err
	}
	s, err := tryStore(o)
	if err == nil {
		return s, nil
	}
	dir := o.Folder.Path(storeName)
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return nil, fmt.Errorf("monitor: the time series in %s are in use by %s: stop that one, or give this one a folder of its own (--data): %w",
			dir, folder.Holder(filepath.Join(dir, "lock")), err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("monitor: the time series in %s may not be read or written by this user: %w", dir, err)
	case outside(err):
		return nil, fmt.Errorf("monitor: the time series in %s cannot be opened, and they are not the cause: %w", dir, err)
	}
	if aside := o.Folder.SetAside(storeName, err); aside != nil {
		return nil, aside
	}
	s, err = tryStore(o)
	if err != nil {
		return nil, fmt.Errorf("monitor: open new time series in %s: %w", dir, err)
	}
	return s, nil
}

// outside tells that an error says something about the machine, and nothing about what is on the disk.
func outside(err error) bool {
	for _, no := range []error{fs.ErrPermission, syscall.ENOSPC, syscall.EMFILE, syscall.ENFILE, syscall.EROFS, syscall.ENOMEM} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// checkBlocks sets single blocks aside that cannot be read: the database would refuse to open for one of them.
func checkBlocks(o Options) error {
	dir := o.Folder.Path(storeName)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // nothing there, or opening it says why not
	}
	lock, err := tsdbutil.NewDirLocker(dir, "", o.Libraries, nil)
	if err != nil || lock.Lock() != nil {
		return nil // somebody else has it: opening it says who
	}
	defer func() { _ = lock.Release() }()
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err != nil || !e.IsDir() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if bad := tryBlock(o, path); bad != nil && !outside(bad) {
			if err := o.Folder.SetPieceAside(blockName, path, bad); err != nil {
				return err
			}
		}
	}
	return nil
}

func tryBlock(o Options, path string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic while opening: %v", p)
		}
	}()
	b, err := tsdb.OpenBlock(o.Libraries, path, nil, nil)
	if err != nil {
		return err
	}
	return b.Close()
}

func tryStore(o Options) (s *store, err error) {
	// The database reads what it finds without much suspicion: what makes it panic is damage like any other.
	defer func() {
		if p := recover(); p != nil {
			s, err = nil, fmt.Errorf("panic while opening: %v", p)
		}
	}()
	s = &store{dir: o.Folder.Path(storeName), stats: tsdb.NewDBStats(), registry: prometheus.NewRegistry()}
	opts := tsdb.DefaultOptions()
	opts.RetentionDuration = o.RetentionTime.Milliseconds()
	opts.MaxBytes = o.RetentionBytes
	// A desk has some thousand series, not millions: smaller tables and buffers than a server of its own would take.
	opts.StripeSize = 512
	opts.WALSegmentSize = 16 << 20
	opts.HeadChunksWriteBufferSize = 1 << 20
	opts.MaxBlockChunkSegmentSize = 64 << 20
	s.db, err = tsdb.Open(s.dir, o.Libraries, s.registry, opts, s.stats)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *store) close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("monitor: close the time series: %w", err)
	}
	return nil
}

// errReadOnly is what the parts of the API say that would change the data, if they were ever reached.
var errReadOnly = errors.New("the admin API is off")

// CleanTombstones is off.
func (*store) CleanTombstones() error { return errReadOnly }

// Delete is off.
func (*store) Delete(context.Context, int64, int64, ...*labels.Matcher) error { return errReadOnly }

// Snapshot is off.
func (*store) Snapshot(string, bool) error { return errReadOnly }

// Stats are the figures of the series in memory.
func (s *store) Stats(byLabel string, limit int) (*tsdb.Stats, error) {
	return s.db.Head().Stats(byLabel, limit), nil
}

// WALReplayStatus tells how far the log was read at the start.
func (s *store) WALReplayStatus() (tsdb.WALReplayStatus, error) {
	return s.stats.Head.WALReplayStatus.GetWALReplayStatus(), nil
}

// BlockMetas describes the blocks on disk.
func (s *store) BlockMetas() ([]tsdb.BlockMeta, error) { return s.db.BlockMetas(), nil }
