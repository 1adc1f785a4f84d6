// Package vectors holds the golden vectors, so that a binary can prove itself by them wherever it runs.
package vectors

import "embed"

// Files are the vector files, as README.md beside them describes them.
//
//go:embed *.json
var Files embed.FS
