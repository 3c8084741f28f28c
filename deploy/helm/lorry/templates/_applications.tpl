{{/* Ray Serve's configuration. Where a replica may be is said in lorry.toml, by resources of the pods of its group alone. */}}
{{- define "lorry.applications" -}}
proxy_location: Disabled
applications:
  - name: gateway
    import_path: gateway.up.builders:gateway_app
    route_prefix: null
    args:
      config: /etc/lorry/lorry.toml
  - name: controller
    import_path: gateway.up.builders:controller_app
    route_prefix: null
    args:
      config: /etc/lorry/lorry.toml
  {{- range .Values.pools }}
  - name: engines-{{ .name }}
    import_path: gateway.up.builders:engines_app
    route_prefix: null
    args:
      config: /etc/lorry/lorry.toml
      pool: {{ .name }}
  {{- end }}
{{- end }}
