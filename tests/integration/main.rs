mod architecture;
mod support;
