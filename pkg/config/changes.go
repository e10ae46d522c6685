package config

import (
	"reflect"
	"strings"
)

// Changes names the settings in which b differs from a, as "mta.queue.lifetime"
// does; a list is one setting.
func Changes(a, b Config) []string {
	return changes(nil, "", reflect.ValueOf(a), reflect.ValueOf(b))
}

func changes(keys []string, prefix string, a, b reflect.Value) []string {
	if a.Kind() != reflect.Struct {
		if !reflect.DeepEqual(a.Interface(), b.Interface()) {
			keys = append(keys, strings.TrimSuffix(prefix, "."))
		}
		return keys
	}
	for i := range a.NumField() {
		if name, _, _ := strings.Cut(a.Type().Field(i).Tag.Get("yaml"), ","); name != "" {
			keys = changes(keys, prefix+name+".", a.Field(i), b.Field(i))
		}
	}
	return keys
}
