package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Duration is a time such as 90s, 5m, 4h or 5d.
type Duration time.Duration

// UnmarshalYAML reads a duration; "d" means 24 hours.
func (d *Duration) UnmarshalYAML(node ast.Node) error {
	s := node.GetToken().Value
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return fmt.Errorf("bad duration %q; write 90s, 5m, 4h or 5d", s)
		}
		*d = Duration(time.Duration(n) * 24 * time.Hour)
		return nil
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return fmt.Errorf("bad duration %q; write 90s, 5m, 4h or 5d", s)
	}
	*d = Duration(v)
	return nil
}

// Size is a number of bytes such as 4096, 64K, 50M or 2G; -1 is no limit.
type Size int64

// UnmarshalYAML reads a size; K, M and G are powers of 1024.
func (z *Size) UnmarshalYAML(node ast.Node) error {
	s := node.GetToken().Value
	if neg, ok := strings.CutPrefix(node.String(), "-"); ok && neg != "" {
		s = "-" + strings.TrimPrefix(s, "-")
	}
	number, unit := s, int64(1)
	for suffix, u := range map[string]int64{"K": 1 << 10, "M": 1 << 20, "G": 1 << 30} {
		if n, ok := strings.CutSuffix(s, suffix); ok {
			number, unit = n, u
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < -1 || n > math.MaxInt64/unit {
		return fmt.Errorf("bad size %q; write 4096, 64K, 50M or 2G, or -1 for no limit", s)
	}
	*z = Size(n * unit)
	if n == -1 {
		*z = -1
	}
	return nil
}
