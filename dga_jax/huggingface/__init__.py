"""Directories of the Hugging Face ecosystem: config.json, safetensors, tokenizer.

Read and written without PyTorch and without `transformers`.
"""
