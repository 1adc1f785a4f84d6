package embedded

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// lockFile is what is locked in the data directory. The snapshot itself cannot be: every save replaces it. The file
// stays behind, because whoever removed it could remove the lock of the next server; the lock itself ends with the
// process, however that ends.
const lockFile = "redis.lock"

// lockDir makes the data directory and takes it for this server alone.
func (s *Server) lockDir() error {
	if s.opts.Dir == "" {
		return nil
	}
	if err := os.MkdirAll(s.opts.Dir, 0o700); err != nil {
		return fmt.Errorf("embedded redis: make the data directory: %w", err)
	}
	lock := flock.New(filepath.Join(s.opts.Dir, lockFile), flock.SetPermissions(0o600))
	taken, err := lock.TryLock()
	if err != nil {
		return fmt.Errorf("embedded redis: lock the data directory %s: %w", s.opts.Dir, err)
	}
	if !taken {
		return fmt.Errorf("embedded redis: the data directory %s is in use by another process: stop that one, "+
			"or give this one a directory of its own (--data)", s.opts.Dir)
	}
	s.lock = lock
	return nil
}

func (s *Server) unlockDir() {
	if s.lock == nil {
		return
	}
	if err := s.lock.Close(); err != nil {
		s.log.Warn("embedded redis cannot unlock its data directory", "dir", s.opts.Dir, "err", err)
	}
}
