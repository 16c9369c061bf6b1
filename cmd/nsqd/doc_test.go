package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tour is only worth something while its files exist.
func TestTourNamesFilesThatExist(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	files := regexp.MustCompile(`(?m)^//\t([a-z]+/[a-z_]+\.go) `).FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(files), 10)
	for _, f := range files {
		_, err := os.Stat(filepath.Join("..", "..", f[1]))
		require.NoError(t, err)
	}
}
