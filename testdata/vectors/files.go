// Package vectors holds the golden vectors, so that a binary can prove itself by them wherever it runs.
package vectors

import (
	"archive/zip"
	"bytes"
	_ "embed"
	"fmt"
	"io/fs"
)

// packed holds the vector files beside it; 'make generate' makes it.
//
//go:embed vectors.zip
var packed []byte

// Files are the vector files, as README.md beside them describes them.
func Files() (fs.FS, error) {
	z, err := zip.NewReader(bytes.NewReader(packed), int64(len(packed)))
	if err != nil {
		return nil, fmt.Errorf("unpack the golden vectors: %w", err)
	}
	return z, nil
}
