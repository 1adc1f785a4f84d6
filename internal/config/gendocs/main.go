// Command gendocs makes anew what is made from the code in the documents named as arguments, between their markers:
// settings, metrics, keys and alerts.
package main

import (
	"fmt"
	"os"

	"quantumharvest/internal/reference"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: gendocs FILE...")
		os.Exit(2)
	}
	for _, path := range os.Args[1:] {
		if err := update(path); err != nil {
			fmt.Fprintln(os.Stderr, "gendocs:", err)
			os.Exit(1)
		}
	}
}

func update(path string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, err := reference.Update(string(old))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if text == string(old) {
		return nil
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
