package folder

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"quantumharvest/internal/statefile"
)

// formatFile says in which format everything in the folder is: our own parts, and those of the two libraries. A release
// that leaves something in it which the one before could not read raises the number.
const formatFile = "monitor.format"

// format is what the file holds beside the number. A folder without the file is of a release that wrote none, format 0; its parts
// read the same.
var format = statefile.Format{Kind: "the format of the data folder", Steps: []statefile.Step{statefile.Same}}

// copiedMost bounds the parts that are copied before the folder is brought forward. What is larger are time series, whose
// blocks are never changed.
const copiedMost = 16 << 20

// bringForward checks that this release can work on the folder, and makes one of an earlier format one of this. Nothing is
// changed in a folder of a newer release.
func (f *Folder) bringForward() error {
	path := f.Path(formatFile)
	content, err := os.ReadFile(path)
	was := 0
	if err == nil {
		was, err = format.Unmarshal(path, content, &struct{}{})
	}
	var newer *statefile.NewerError
	switch {
	case errors.As(err, &newer):
		return fmt.Errorf("monitor: the data folder cannot be used: %w (--data)", err)
	case err == nil && was == format.Version():
		return nil
	case err != nil && !statefile.Missing(err):
		if _, isPath := errors.AsType[*os.PathError](err); isPath {
			return fmt.Errorf("monitor: %w", err)
		}
		if err := f.SetAside(formatFile, err); err != nil {
			return err
		}
	}
	if err := f.copyParts(was); err != nil {
		return fmt.Errorf("monitor: copy the parts of an earlier release before the folder is brought forward: %w", err)
	}
	if err := format.Save(path, struct{}{}); err != nil {
		return fmt.Errorf("monitor: the data folder cannot be written: %w", err)
	}
	return nil
}

// copyParts keeps a copy of every file that is a part.
func (f *Folder) copyParts(was int) error {
	parts, err := os.ReadDir(f.path)
	if err != nil {
		return err
	}
	for _, part := range parts {
		name := part.Name()
		info, err := part.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() > copiedMost || name == lockFile || name == pidFile || name == formatFile ||
			strings.Contains(name, ".damaged-") || strings.Contains(name, ".format-") {
			continue
		}
		if _, err := statefile.Backup(f.Path(name), was); err != nil {
			return err
		}
	}
	return nil
}
